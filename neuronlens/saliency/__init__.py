"""Rankings of neurons, a ranker per file."""
