"""Folders of pictures: labels by sub-folder, the arrays that a training's transforms make, one line for each fault."""

import io

import numpy as np
import pytest

from quant_core.errors import InputError
from quant_core.storage.data import open_columns, refer_data
from quant_core.storage.data_forms import PictureForm

Image = pytest.importorskip("PIL.Image")

FORM = PictureForm(input="x", type="float32", channels=3, channels_last=False, height=4, width=4)


def picture(path, width=6, height=4, seed=0, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return pixels


def opened(folder, tmp_path, **changed):
    form = FORM.model_copy(update=changed)
    return open_columns(refer_data(folder, tmp_path / "cache", form), tmp_path / "cache")


def test_labels_are_the_places_of_sub_folders_sorted_by_name(tmp_path):
    for seed, name in enumerate(["b/2.png", "b/10.png", "a/deep/1.jpg", "a/z.JPEG", "c/1.png"]):
        picture(tmp_path / "data" / name, seed=seed)
    (tmp_path / "data/a/notes.txt").write_text("no picture")
    data = opened(tmp_path / "data", tmp_path)
    assert data.labels.tolist() == [0, 0, 1, 1, 2]
    assert data.columns["x"].shape == (5, 3, 4, 4)


def test_pictures_without_sub_folders_have_no_labels(tmp_path):
    picture(tmp_path / "data/1.png")
    picture(tmp_path / "data/2.png", seed=1)
    data = opened(tmp_path / "data", tmp_path)
    assert (data.count, data.labels) == (2, None)
    assert opened(tmp_path / "data/2.png", tmp_path).count == 1


def test_a_picture_of_the_right_size_keeps_its_pixels(tmp_path):
    pixels = picture(tmp_path / "data/1.png", 4, 4)
    plain = opened(tmp_path / "data", tmp_path).columns["x"][0]
    np.testing.assert_array_equal(plain, np.moveaxis(pixels, -1, 0).astype(np.float32) / np.float32(255))
    last = opened(tmp_path / "data", tmp_path, channels_last=True, type="uint8").columns["x"][0]
    np.testing.assert_array_equal(last, pixels)


def test_mean_and_deviation_are_of_each_channel(tmp_path):
    pixels = picture(tmp_path / "data/1.png", 4, 4)
    found = opened(tmp_path / "data", tmp_path, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)).columns["x"][0]
    expected = (pixels / 255 - [0.1, 0.2, 0.3]) / [0.5, 1.0, 2.0]
    np.testing.assert_allclose(found, np.moveaxis(expected, -1, 0), atol=1e-6)


def test_the_centre_is_cut_out(tmp_path):
    pixels = picture(tmp_path / "data/1.png", 8, 4)
    found = opened(tmp_path / "data", tmp_path, type="uint8", channels_last=True).columns["x"][0]
    np.testing.assert_array_equal(found, pixels[:, 2:6])


def test_a_share_of_the_resized_picture_is_kept(tmp_path):
    pixels = picture(tmp_path / "data/1.png", 8, 8)
    found = opened(tmp_path / "data", tmp_path, type="uint8", channels_last=True, crop=0.5).columns["x"][0]
    np.testing.assert_array_equal(found, pixels[2:6, 2:6])


def test_a_grey_input_gets_grey_pictures(tmp_path):
    picture(tmp_path / "data/1.png", 4, 4, mode="RGBA")
    assert opened(tmp_path / "data", tmp_path, channels=1).columns["x"].shape == (1, 1, 4, 4)


@pytest.mark.parametrize("size", [(33, 21), (20, 47), (8, 8), (5, 200)])
def test_pictures_are_as_torchvision_makes_them(size, tmp_path):
    transforms = pytest.importorskip("torchvision.transforms")
    pixels = picture(tmp_path / "data/1.png", *size)
    found = opened(tmp_path / "data", tmp_path, height=14, width=14, crop=0.875, mean=(0.5,), std=(0.25,))
    steps = [transforms.Resize(16), transforms.CenterCrop(14), transforms.ToTensor(), transforms.Normalize(0.5, 0.25)]
    expected = transforms.Compose(steps)(Image.fromarray(pixels)).numpy()
    np.testing.assert_array_equal(found.columns["x"][0], expected)


def test_the_digest_covers_sub_folders_and_the_form(tmp_path):
    picture(tmp_path / "data/a/1.png")
    first = refer_data(tmp_path / "data", tmp_path, FORM).sha256
    assert refer_data(tmp_path / "data", tmp_path, FORM).sha256 == first
    assert refer_data(tmp_path / "data", tmp_path, FORM.model_copy(update={"width": 5})).sha256 != first
    picture(tmp_path / "data/a/1.png", seed=1)
    assert refer_data(tmp_path / "data", tmp_path, FORM).sha256 != first


def broken(folder):
    picture(folder / "a/1.png", 40, 40)
    content = (folder / "a/1.png").read_bytes()
    (folder / "a/2.png").write_bytes(content[: len(content) // 2])


def text(folder):
    (folder / "a").mkdir(parents=True)
    (folder / "a/1.jpg").write_text("no picture")


def empty_class(folder):
    picture(folder / "a/1.png")
    (folder / "b").mkdir()


def beside_classes(folder):
    picture(folder / "a/1.png")
    picture(folder / "stray.png")


@pytest.mark.parametrize(
    ("write", "line"),
    [
        (broken, "data: a/2.png cannot be read as a picture: "),
        (text, "data: a/1.jpg cannot be read: it is not a picture"),
        (empty_class, "its sub-folder b holds no picture"),
        (beside_classes, "has pictures beside sub-folders, such as stray.png"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_unusable_pictures_are_refused_in_one_line(write, line, tmp_path):
    write(tmp_path / "data")
    with pytest.raises(InputError) as caught:
        opened(tmp_path / "data", tmp_path)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("columns/*"))


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    picture(tmp_path / "data/1.png", 40, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"1.png cannot be read as a picture: .*decompression bomb"):
        opened(tmp_path / "data", tmp_path)


def test_encoded_pictures_are_bytes_too():
    from quant_core.storage.pictures import picture_array

    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (255, 0, 0)).save(stream, "PNG")
    assert picture_array(stream.getvalue(), FORM, "p")[:, 0, 0].tolist() == [1, 0, 0]
