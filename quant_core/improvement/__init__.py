"""Better layers at equal bits: what makes up for the loss of quantization without spending a bit."""
