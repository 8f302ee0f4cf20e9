"""Everything that touches a model's inside."""
