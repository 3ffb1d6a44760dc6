"""The flows of narrowcast, and its command line."""
