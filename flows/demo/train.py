"""Train the demo's network on the training part of the digits and write it to digits_cnn.onnx.

Needs torch and onnx, which the demo itself does not. From the top of the repository:

    python -m flows.demo.train
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path

import onnx
import torch
from torch import nn

from flows.demo.splits import Part, digit_splits, training_part

MODEL = Path(__file__).parent / "digits_cnn.onnx"
SEED = 0
EPOCHS = 40
BATCH = 16
PEAK_RATE = 0.1
WIDTH = 8
STRIDES = (1, 1, 2, 1, 2, 1)
"""Of the depthwise convolutions, block by block; a block with stride 2 doubles the channels."""


def unit(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Chain a convolution, batch normalisation and ReLU."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    # The larger epsilon, that of the original MobileNet, keeps a channel that hardly varies from getting a huge
    # weight when the normalisation is folded into the convolution.
    normalisation = nn.BatchNorm2d(channels_out, eps=1e-3)
    return nn.Sequential(OrderedDict(conv=convolution, norm=normalisation, relu=nn.ReLU()))


def digits_cnn() -> nn.Sequential:
    """Build a small MobileNet: a stem, blocks of depthwise and pointwise convolutions, and a classifier."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=unit(1, WIDTH, kernel=3))
    channels = WIDTH
    for number, stride in enumerate(STRIDES, start=1):
        depthwise = unit(channels, channels, kernel=3, stride=stride, groups=channels)
        pointwise = unit(channels, channels * stride, kernel=1)
        parts[f"block{number}"] = nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))
        channels *= stride
    parts["pool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["classifier"] = nn.Linear(channels, 10)
    return nn.Sequential(parts)


def train() -> nn.Sequential:
    """Train a network on the training part; it comes out the same every time on the same machine."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    part = training_part()
    images, labels = torch.from_numpy(part["input"]), torch.from_numpy(part["labels"])
    batches = len(labels) // BATCH
    network = digits_cnn().train()
    optimizer = torch.optim.SGD(network.parameters(), momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=EPOCHS * batches)
    for _ in range(EPOCHS):
        order = torch.randperm(len(labels))[: batches * BATCH]
        for chosen in order.view(batches, BATCH):
            loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return network.eval()


def accuracy(network: nn.Module, part: Part) -> float:
    """Return the share of the images whose largest logit is the right one."""
    with torch.no_grad():
        predicted = network(torch.from_numpy(part["input"])).argmax(dim=1).numpy()
    return float((predicted == part["labels"]).mean())


def export(network: nn.Module, path: Path) -> None:
    """Write the network to an ONNX file with its batch normalisations folded."""
    with warnings.catch_warnings():
        # The older exporter names nodes after modules (/block1/depthwise/conv/Conv), which reads well in a plan.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(1, 1, 8, 8),),
            path,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    model = onnx.load(path)
    # Exporters note down where in which source file a node comes from: nobody else's paths belong in the file.
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer):
        part.doc_string = ""
        part.ClearField("metadata_props")
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    """Train, report, export."""
    network = train()
    for name, part in digit_splits().items():
        print(f"{name:<12} {accuracy(network, part):.2%}")
    export(network, MODEL)
    print(f"{MODEL.name}: {MODEL.stat().st_size} bytes")


if __name__ == "__main__":
    main()
