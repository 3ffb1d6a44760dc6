"""What a model is measured by, and how sure that is."""
