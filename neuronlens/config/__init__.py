"""The configuration: what a run does, and which values are refused."""
