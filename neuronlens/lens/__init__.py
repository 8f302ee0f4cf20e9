"""What a run learned, for use in a running model."""
