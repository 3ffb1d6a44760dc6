"""AMD Quark's automatic mixed precision on one model; runs in Quark's own environment (see peers.py).

usage: quark_run.py MODEL DATA.npz OUT.onnx L2_LIMIT BATCH WORKERS
"""

import sys

import numpy as np
from onnxruntime.quantization.calibrate import CalibrationDataReader
from quark.onnx import ModelQuantizer, QConfig
from quark.onnx.quantization.config.algorithm import AutoMixprecisionConfig
from quark.onnx.quantization.config.spec import CalibMethod, Int8Spec, Int16Spec, QLayerConfig


class Batches(CalibrationDataReader):
    """The data in batches, as often as it is asked for."""

    def __init__(self, path, size):
        arrays = {name: array for name, array in np.load(path).items() if name != "labels"}
        self.count = len(next(iter(arrays.values())))
        self.batches = [
            {name: array[start : start + size] for name, array in arrays.items()}
            for start in range(0, self.count, size)
        ]
        self.rewind()

    def rewind(self):
        self.left = iter(self.batches)

    reset_iter = rewind

    def get_next(self):
        return next(self.left, None)


def layer(activation):
    return QLayerConfig(
        activation=activation(calibration_method=CalibMethod.MinMax),
        weight=Int8Spec(calibration_method=CalibMethod.MinMax),
    )


if __name__ == "__main__":
    model, data, out, limit, batch, workers = sys.argv[1:]
    reader = Batches(data, int(batch))
    search = AutoMixprecisionConfig(
        target_layer_config=layer(Int8Spec),
        target_op_type=["Conv", "ConvTranspose", "Gemm", "MatMul"],
        data_size=reader.count,
        metric_default="l2",
        metric_threshold=float(limit),
        metric_output_index=0,
        metric_optimize_object="speed",
        worker_num=int(workers),
    )
    ModelQuantizer(QConfig(global_config=layer(Int16Spec), algo_config=[search])).quantize_model(model, out, reader)
