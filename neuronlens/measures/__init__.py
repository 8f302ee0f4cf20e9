"""What outcomes amount to: every column of the results, intervals, and methods at matched erasure."""
