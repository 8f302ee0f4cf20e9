"""What is put in wrongly, and what comes of it."""
