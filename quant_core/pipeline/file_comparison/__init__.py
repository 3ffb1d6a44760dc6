"""Compares two quantized files of one float model: `compare_files` calls the rest."""
