"""Rules that profiles are made of: each finds the nodes of a written file that break it."""
