"""From the values tensors take to the range each type gives them."""
