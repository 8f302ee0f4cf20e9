"""One table as Markdown, LaTeX, CSV and console text."""
