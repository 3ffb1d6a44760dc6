"""Where things are: references by digest, data sets, tables, and stores that may fail."""
