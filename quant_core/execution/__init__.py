"""How stages are called, and what they may use of the machine."""
