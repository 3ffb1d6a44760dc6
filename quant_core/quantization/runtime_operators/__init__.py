"""Rewrites a model that is written with Q/DQ pairs to use quantized operators of ONNX Runtime."""
