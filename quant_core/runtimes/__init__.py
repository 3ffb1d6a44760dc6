"""Where a model will run: a profile a runtime, one module each, and what reads a written file by it."""
