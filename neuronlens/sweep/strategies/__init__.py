"""The ways of reading cells, chosen once per sweep."""
