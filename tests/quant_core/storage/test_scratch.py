"""Leftovers of killed processes are removed, and nothing else is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from quant_core.storage import scratch as unfinished
from quant_core.storage.references import atomic_folder, atomic_write
from quant_core.storage.scratch import clear_leftovers, scratch_folder

BUILD = {
    "scratch": "scratch_folder(folder)",
    "folder": "atomic_folder(folder / 'version')",
    "file": "_taking_the_place_of(folder / 'current.json')",
}

MAKER = """
import sys, time
from pathlib import Path
from quant_core.storage.references import _taking_the_place_of, atomic_folder
from quant_core.storage.scratch import scratch_folder
folder = Path(sys.argv[1])
with {build} as made:
    if isinstance(made, Path):
        (made / "inner").mkdir()
        (made / "inner" / "model.onnx").write_text("half")
    print("made", flush=True)
    time.sleep(60)
"""


def hours_pass(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (then := path.stat().st_mtime - 7200, then))


@pytest.mark.parametrize("build", BUILD)
def test_what_a_killed_process_was_making_goes_and_what_a_living_one_makes_stays(tmp_path, build):
    command = [sys.executable, "-c", MAKER.format(build=BUILD[build]), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as maker:
        try:
            assert maker.stdout is not None and maker.stdout.readline() == b"made\n"
            hours_pass(tmp_path)
            clear_leftovers(tmp_path)
            assert len(list(tmp_path.iterdir())) == 1
        finally:
            maker.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 1
    clear_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_was_written_to_lately_stays(tmp_path):
    with scratch_folder(tmp_path) as folder:
        (folder / "model.onnx").write_text("half")
        left = shutil.copytree(folder, tmp_path / f".other.{'0' * 32}")
    hours_pass(tmp_path)
    (left / "model.onnx").write_text("more")
    clear_leftovers(tmp_path)
    assert left.exists()
    hours_pass(tmp_path)
    clear_leftovers(tmp_path)
    assert not left.exists()


def test_only_what_bears_such_a_name_goes(tmp_path):
    elsewhere = tmp_path / "elsewhere" / f".deeper.{'0' * 32}"
    elsewhere.mkdir(parents=True)
    for name in (".hidden", "version", f"version.{'0' * 32}", f".version.{'0' * 31}", f".version.{'0' * 32}.onnx"):
        (tmp_path / name).write_text("kept")
    (tmp_path / f".link.{'0' * 32}").symlink_to(elsewhere)
    hours_pass(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    clear_leftovers(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_without_locks_all_is_made_as_ever_and_everything_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "fcntl", None)
    (tmp_path / f".version.{'0' * 32}").mkdir()
    atomic_write(tmp_path / "file", b"content")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "inner").write_text("content")
    hours_pass(tmp_path)
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder", f".version.{'0' * 32}"}


def test_a_folder_that_is_not_there_has_none(tmp_path):
    clear_leftovers(tmp_path / "nowhere")
