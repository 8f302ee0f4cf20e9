"""The intervals of activation that speak for a concept, an estimator per file."""
