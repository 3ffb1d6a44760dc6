"""What is said of a run in sentences, one module a subject; `summary` puts them together."""
