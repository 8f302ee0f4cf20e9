"""What is done to activations, and when: edits, gates, and the batches that carry them out."""
