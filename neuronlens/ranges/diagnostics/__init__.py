"""What ranges and fitted laws do on samples they were not fitted on."""
