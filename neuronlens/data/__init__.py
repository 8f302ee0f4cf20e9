"""Where texts, documents and questions come from."""
