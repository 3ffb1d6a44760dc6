"""Samples of tasks, from what packages ship: photographs, rendered text, digits and synthesized speech."""

from __future__ import annotations

import io
import subprocess
import wave
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["SENTENCES", "chords", "digits", "pages", "photographs", "speech_frames", "text_lines"]

Floats = NDArray[np.float32]


def photographs(size: int, scaled: Callable[[Floats], Floats]) -> Floats:
    """Return crops of the photographs that scikit-image ships, [16, 3, size, size]."""
    from PIL import Image
    from skimage import data

    found = []
    for number, photo in enumerate([data.astronaut(), data.coffee(), data.chelsea(), data.cat()] * 4):
        picture = Image.fromarray(photo)
        side = min(picture.size) * (10 - number // 4) // 10
        left = (picture.width - side) // 2
        picture = picture.crop((left, 0, left + side, side)).resize((size, size))
        found.append(scaled(np.moveaxis(np.asarray(picture, np.float32), -1, 0)))
    return np.stack(found)


def text_lines(width: int) -> Floats:
    """Return lines of text in the font that Pillow ships, [24, 3, 48, width], as recognisers take them."""
    from PIL import Image, ImageDraw, ImageFont

    words = "quantize the narrow layers of seventy models and keep their scores within a tenth of one decibel".split()
    found = []
    for number in range(24):
        picture = Image.new("RGB", (width, 48), "white")
        text = " ".join(words[number % 14 : number % 14 + 3])
        ImageDraw.Draw(picture).text((6, 8 + number % 5), text, "black", ImageFont.load_default(26))
        found.append(_centred(np.asarray(picture, np.float32)))
    return np.stack(found)


def pages(size: int) -> Floats:
    """Return pages of such lines, [12, 3, size, size], for detectors."""
    from PIL import Image, ImageDraw, ImageFont

    found = []
    for number in range(12):
        picture = Image.new("RGB", (size, size), "white")
        for line in range(3):
            place = (10 + 7 * number % 60, 20 + 90 * line + number)
            ImageDraw.Draw(picture).text(place, f"line {line} of page {number}", "black", ImageFont.load_default(22))
        found.append(_centred(np.asarray(picture, np.float32)))
    return np.stack(found)


def _centred(pixels: Floats) -> Floats:
    return np.asarray((np.moveaxis(pixels, -1, 0) / 255 - 0.5) / 0.5, np.float32)


def digits() -> tuple[Floats, NDArray[np.int64]]:
    """Return the handwritten digits that scikit-learn ships, [1797, 64] from 0 to 1, and which they are."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return np.asarray(found.data / 16, np.float32), np.asarray(found.target, np.int64)


SENTENCES = [
    "The cat sleeps on the sofa all day long.", "A kitten is napping on the couch.",
    "Interest rates were raised by the central bank.", "The bank made borrowing money more expensive.",
    "She plays the violin in an orchestra.", "He is a member of a symphony as a cellist.",
    "Heavy rain flooded the streets of the old town.", "After the storm the roads were under water.",
    "The train to the coast leaves at noon.", "At twelve o'clock a railway service departs for the sea.",
    "Quantized networks need less memory.", "Models with fewer bits take up little storage.",
    "Our team won the football match last night.", "Yesterday evening we beat the other side at soccer.",
    "Add two eggs and a spoon of sugar to the flour.", "Mix the dough with eggs and something sweet.",
    "The doctor told him to rest for a week.", "A physician advised the patient to stay in bed.",
    "Astronomers found a planet around a distant star.", "A new world was discovered far outside our solar system.",
    "The museum opens its doors again in spring.", "From April on, the gallery welcomes visitors once more.",
    "Prices of vegetables rose because of the drought.", "Dry weather made greens more expensive.",
]  # fmt: skip
"""Sentences, each second one saying what the one before it says."""


def chords(size: int, rate: int) -> Floats:
    """Return pieces of music, [16, size, 1]: chords of three fading notes with overtones, one every half second."""
    rng, times = np.random.default_rng(0), np.arange(rate // 2) / rate
    found = []
    for _ in range(16):
        beats = [_chord(rng.choice(np.arange(40, 80), 3, replace=False), times) for _ in range(-(-size // len(times)))]
        found.append(np.concatenate(beats)[:size, None] + rng.normal(size=(size, 1), scale=1e-3))
    return np.stack(found).astype(np.float32)


def _chord(keys: NDArray[np.int64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return notes by their MIDI numbers."""
    tones = [(440 * 2 ** ((key - 69) / 12) * overtone, overtone) for key in keys for overtone in (1, 2, 3, 4)]
    waves = [np.sin(2 * np.pi * pitch * times) / overtone for pitch, overtone in tones]
    return np.asarray(0.1 * np.exp(-3 * times) * sum(waves))


_RATE = 16_000


def speech_frames(size: int, context: int) -> Floats:
    """Return frames of speech and silence at 16 kHz, [N, context + size], each with the end of the one before it."""
    sounds = [_spoken(text) for text in SENTENCES[:6]]
    noise = np.random.default_rng(0)
    quiet = [noise.normal(size=_RATE, scale=0.003).astype(np.float32) for _ in sounds]
    sound = np.concatenate([part for pair in zip(quiet, sounds, strict=True) for part in pair])
    count = len(sound) // size
    padded = np.concatenate([np.zeros(context, np.float32), sound[: count * size]])
    return np.stack([padded[at * size : at * size + context + size] for at in range(count)])


def _spoken(text: str) -> Floats:
    """Return a sentence as espeak-ng speaks it."""
    spoken = subprocess.run(["espeak-ng", "--stdout", text], check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(spoken)) as file:
        rate, frames = file.getframerate(), np.frombuffer(file.readframes(1 << 24), np.int16)
    times = np.arange(0, len(frames) / rate, 1 / _RATE)
    return np.interp(times, np.arange(len(frames)) / rate, frames / 32768).astype(np.float32)
