"""How the codes of a weight are chosen with the data in view: rounding to the nearest, GPTQ, HQQ."""
