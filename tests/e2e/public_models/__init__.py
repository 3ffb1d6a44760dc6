"""Models that anybody can get, quantized as a new user would: what is told beside what is true."""
