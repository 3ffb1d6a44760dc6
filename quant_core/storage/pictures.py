"""Folders of pictures as data: labels by sub-folder, and each picture as an array of a fixed size.

Files, labels, resizing and cropping are as those of torchvision's ImageFolder, Resize, CenterCrop, ToTensor and
Normalize, so that a model gets what it got in training.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import numpy as np
from fsspec.core import url_to_fs
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.storage.data_forms import LABELS, PictureForm

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PICTURES", "are_pictures", "picture_array", "picture_columns"]

PICTURES = frozenset([".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"])
"""Ends of names of picture files."""


def are_pictures(url: str, data_files: Sequence[str]) -> bool:
    """Return whether a path or URL is a picture, or a folder of pictures or of folders of them.

    A folder with files that end in one of `data_files` is none.
    """
    files, path = url_to_fs(url)
    if not files.isdir(path):
        return _suffix(path) in PICTURES
    here = files.ls(path, detail=False)
    if any(_suffix(name) in data_files for name in here):
        return False
    return any(_suffix(name) in PICTURES for name in here) or any(
        _suffix(name) in PICTURES for folder in here if files.isdir(folder) for name in _files_below(files, folder)
    )


def _files_below(files: fsspec.AbstractFileSystem, folder: str) -> list[str]:
    return [str(name) for name in files.find(folder)]


def _suffix(name: str) -> str:
    return Path(str(name)).suffix.lower()


def picture_columns(path: Path, source: str, form: PictureForm) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yield (column, one sample): each picture, and its label where pictures are in sub-folders.

    Raises InputError for a picture that cannot be read, named, and where Pillow is not installed.
    """
    for file, label in _labelled(path, source):
        yield form.input, picture_array(file.read_bytes(), form, f"{source}: {_within(file, path)}")[None]
        if label is not None:
            yield LABELS, np.asarray([label], np.int64)


def _within(file: Path, folder: Path) -> str:
    return file.name if file == folder else file.relative_to(folder).as_posix()


def _labelled(path: Path, source: str) -> list[tuple[Path, int | None]]:
    """Return the pictures in order, each with the number of its sub-folder among all, sorted by name."""
    if path.is_file():
        return [(path, None)]
    single = [(file, None) for file in sorted(path.iterdir()) if file.is_file() and _is_picture(file)]
    classes = sorted(folder for folder in path.iterdir() if folder.is_dir())
    if not classes:
        return list(single)
    if single:
        raise InputError(f"{source}: has pictures beside sub-folders, such as {single[0][0].name}: which class is it?")
    found: list[tuple[Path, int | None]] = []
    for label, folder in enumerate(classes):
        inside = sorted(
            (file for file in folder.rglob("*") if file.is_file() and _is_picture(file)),
            key=lambda file: (file.parent, file),
        )
        if not inside:
            raise InputError(f"{source}: its sub-folder {folder.name} holds no picture; each sub-folder is a class")
        found += [(file, label) for file in inside]
    return found


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in PICTURES


def picture_array(content: bytes, form: PictureForm, name: str) -> NDArray[np.generic]:
    """Return a picture as the input of a model, without the axis of samples.

    Raises InputError with its `name` for bytes that are no picture, and where Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise InputError("pictures are read by Pillow: pip install 'narrowcast[images]'") from error
    try:
        with Image.open(io.BytesIO(content)) as opened:
            picture = opened.convert("RGB" if form.channels == 3 else "L")
    except UnidentifiedImageError as error:
        raise InputError(f"{name} cannot be read: it is not a picture") from error
    except Exception as error:  # a broken file makes Pillow raise whatever its decoders do
        raise InputError(f"{name} cannot be read as a picture: {error}") from error
    return _as_input(np.asarray(_cropped(picture, form)), form)


def _cropped(picture: Image, form: PictureForm) -> Image:
    """Resize so that the picture just covers what is wanted, and cut the centre out."""
    from PIL import Image

    wide, high = math.floor(form.width / form.crop), math.floor(form.height / form.crop)
    if picture.width * high <= picture.height * wide:
        size = wide, max(int(wide * picture.height / picture.width), high)
    else:
        size = max(int(high * picture.width / picture.height), wide), high
    resized = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = round((resized.width - form.width) / 2), round((resized.height - form.height) / 2)
    return resized.crop((left, top, left + form.width, top + form.height))


def _as_input(pixels: NDArray[np.uint8], form: PictureForm) -> NDArray[np.generic]:
    values: NDArray[np.generic] = pixels.reshape(form.height, form.width, form.channels)
    if form.type != "uint8":
        scaled = values.astype(np.float32) / np.float32(255)
        values = ((scaled - np.asarray(form.mean, np.float32)) / np.asarray(form.std, np.float32)).astype(form.type)
    return values if form.channels_last else np.ascontiguousarray(np.moveaxis(values, -1, 0))
