"""The built-in example: handwritten digits, and a small CNN trained on them by `train.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flows.demo.splits import digit_splits

__all__ = ["DEMO_OPTIONS", "write_example"]

DEMO_OPTIONS = {"max_l2": 0.6, "confidence": 0.95}
"""The options the demo gives to `narrowcast auto`: a target the all-narrow model misses and a mix surely meets:
so it does on data that the search never saw."""


def write_example(folder: Path) -> dict[str, str]:
    """Write the example's model and data into a folder, as a user would have them; paths by option name."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    paths = {"model": data / "digits_cnn.onnx"}
    paths["model"].write_bytes((Path(__file__).parent / "digits_cnn.onnx").read_bytes())
    for part, arrays in digit_splits().items():
        paths[part] = data / f"{part}.npz"
        np.savez(paths[part], allow_pickle=False, **arrays)
    return {name: str(path) for name, path in paths.items()}
