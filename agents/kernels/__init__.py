"""How a sequence is computed."""
