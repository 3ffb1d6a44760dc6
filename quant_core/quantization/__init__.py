"""The numbers and the graph of a quantized model."""
