#!/usr/bin/env bash
# torch's ONNX exporter makes one input of two where the same tensor is the example for both, and says nothing.
#
# Versions: torch 2.13.0 (CPU), onnxscript 0.7.2, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Behaviour: ids and mask of a sentence encoder have one shape and type, so one tensor of ones is a handy example for both. With
# dynamo=True the exported model has both inputs, by their names, and reads the second wherever the first is meant: the
# embedding looks the mask up. It loads, runs and gives numbers of the right shape. With two tensors of the same values, or a
# clone, all is right; with dynamo=False it is right even so. Quantized, such a model meets any target against itself.
# So: give each input an example of its own, and compare an exported model with its module before anything else.
# Seen (largest error against the module; what the embedding looks up):
#   dynamo, one tensor   0.75  mask
#   dynamo, a clone      0.00  ids
#   older,  one tensor   0.00  ids
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch

warnings.simplefilter("ignore")
IDS, MASK = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[1, 1, 0], [1, 0, 0]])


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(8, 4)
        self.table.weight.data = torch.arange(32.0).reshape(8, 4) / 16

    def forward(self, ids, mask):
        return self.table(ids) * mask.unsqueeze(-1)


def exported(example, dynamo):
    module = Encoder().train(False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        names = {"input_names": ["ids", "mask"], "output_names": ["y"]}
        torch.onnx.export(module, example, path, **names, dynamo=dynamo, **({"verbose": False} if dynamo else {}))
        graph = onnx.load(path).graph
        given = {value.name: {"ids": IDS, "mask": MASK}[value.name].numpy() for value in graph.input}
        found = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, given)[0]
    looked_up = next(node.input[1] for node in graph.node if node.op_type == "Gather")
    return round(float(np.abs(found - module(IDS, MASK).detach().numpy()).max()), 2), looked_up


one = torch.ones((2, 3), dtype=torch.int64)
print("torch", torch.__version__.split("+")[0], "onnx", onnx.__version__, "onnxruntime", ort.__version__)
cases = {"dynamo, one tensor": ((one, one), True), "dynamo, a clone": ((one, one.clone()), True), "older, one tensor": ((one, one), False)}
found = {name: exported(*case) for name, case in cases.items()}
for name, (error, looked_up) in found.items():
    print(f"{name:<19} {error:.2f}  {looked_up}")
wrong = {name for name, (error, looked_up) in found.items() if error or looked_up != "ids"}
sys.exit("this has changed" if wrong != {"dynamo, one tensor"} or found["dynamo, one tensor"][1] != "mask" else 0)
PY
"$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null
