"""Data as a model takes them: checked, in batches, and step by step where it has states."""
