"""Speed side by side with the plain procedure, both sides in one process."""
