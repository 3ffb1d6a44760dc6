"""Makes the float model ready to be quantized: `prepare` calls the rest."""
