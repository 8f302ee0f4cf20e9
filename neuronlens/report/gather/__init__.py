"""A multirun as one: what became of every job, and the results of those that came to their end."""
