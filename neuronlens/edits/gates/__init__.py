"""When an edit applies."""
