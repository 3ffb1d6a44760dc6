"""The float model: read, made ready, and looked at as a graph of layers."""
