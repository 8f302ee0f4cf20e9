"""Files that are whole or not there, the cache, and arrays past the memory budget."""
