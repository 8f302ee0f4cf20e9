"""Results for readers: tables, figures, one page, comparisons and claims."""
