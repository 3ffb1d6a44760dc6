"""The profile of each runtime, one module each."""
