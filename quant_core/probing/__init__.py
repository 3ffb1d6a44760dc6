"""How much each layer loses when it alone is narrowed."""
