"""The configuration: what a run may be told, and what it is refused for."""
