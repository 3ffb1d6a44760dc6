"""AMD Quark's wide model of one method, type and model; runs in Quark's own environment (see quark_scales.py).

usage: quark_wide_run.py MODEL DATA.npz OUT.onnx METHOD ACTIVATION_TYPE WEIGHT_TYPE BATCH ALIGN_POOL
"""

import sys

import numpy as np
from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.quant_utils import QuantFormat, QuantType
from quark.onnx import ModelQuantizer
from quark.onnx.calibration.methods import PowerOfTwoMethod
from quark.onnx.quantization.config import Config, QuantizationConfig


class Batches(CalibrationDataReader):
    """The data in batches, as often as it is asked for."""

    def __init__(self, path, size):
        arrays = {name: array for name, array in np.load(path).items() if name != "labels"}
        count = len(next(iter(arrays.values())))
        self.batches = [{name: array[at : at + size] for name, array in arrays.items()} for at in range(0, count, size)]
        self.rewind()

    def __len__(self):
        return len(self.batches)

    def rewind(self):
        self.left = iter(self.batches)

    reset_iter = rewind

    def get_next(self):
        return next(self.left, None)


if __name__ == "__main__":
    model, data, out, method, activations, weights, batch, align_pool = sys.argv[1:]
    chosen = getattr(PowerOfTwoMethod, method, None) or getattr(CalibrationMethod, method)
    aligned = {} if align_pool == "yes" else {"AlignPool": False}
    config = QuantizationConfig(
        calibrate_method=chosen,
        quant_format=QuantFormat.QDQ,
        activation_type=getattr(QuantType, activations),
        weight_type=getattr(QuantType, weights),
        include_cle=False,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, **aligned},
    )
    ModelQuantizer(Config(global_quant_config=config)).quantize_model(model, out, Batches(data, int(batch)))
