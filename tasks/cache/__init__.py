"""Keys of steps, and the store of their results."""
