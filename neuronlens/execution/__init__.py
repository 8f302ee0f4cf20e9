"""How stages run: the trainer, the console, progress and timings."""
