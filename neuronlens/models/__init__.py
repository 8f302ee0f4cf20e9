"""Models: found, loaded, prompted, trained."""
