"""Experiments of the paper and beyond: configs in conf/experiment, expected figures beside this file."""
