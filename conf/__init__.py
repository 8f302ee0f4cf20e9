"""The Hydra groups: a folder per group, a YAML file per option; `neuronlens.conf` once installed."""
