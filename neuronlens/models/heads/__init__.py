"""How a prediction is read off a model's output, a file per head."""
