"""Other frameworks under a lens: each module needs its framework and is imported by nobody else."""
