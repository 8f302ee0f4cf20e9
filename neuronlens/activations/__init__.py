"""Activations of a model, read once: values at the record position, moments per concept, states to replay from."""
