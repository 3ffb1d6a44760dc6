"""The graph of a plan: Q/DQ pairs on its edges, and each layer in a form that its runtime computes as written."""
