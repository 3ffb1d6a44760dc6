"""The command with everything on an object store that fails: python -m tests.e2e.object_store --moto-python PYTHON

The store is moto's S3 server on loopback, in an environment of its own, for its botocore is not the one s3fs wants:

    python -m venv moto && moto/bin/pip install 'moto[server]'
    pip install 'narrowcast[s3]'
    python -m tests.e2e.object_store --moto-python moto/bin/python

Model, data, workspace and output are at s3:// URLs. The command runs on a sound store; on one that fails a fifth of
all requests; through a minute in which nobody answers; and with a pickle bomb in the place of every object. Each
time the model must be that of a run on this machine's disk, byte for byte, and every object whole.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import fsspec

from flows.demo import DEMO_OPTIONS, write_example
from quant_core.errors import NarrowcastError
from quant_core.results.outcome import OPTIONAL_TABLES, TABLES, open_outcome
from quant_core.storage.references import refer
from quant_core.storage.store import Store
from tasks.cache.result_store import ResultStore
from tests.bombs import bombs
from tests.e2e.faulty_proxy import FaultyProxy, faulty_proxy
from tests.e2e.prefect_server import eventually, free_port

BUCKET = "narrowcast"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "t3sting", "AWS_DEFAULT_REGION": "us-east-1"}
_DATA = ("calibration", "evaluation", "holdout")


@contextmanager
def s3_server(python: str) -> Iterator[int]:
    """moto's S3 server with an empty bucket, for the time of the block; its port."""
    port = free_port()
    command = [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: urlopen(f"http://127.0.0.1:{port}/moto-api/").status == 200, 60, "moto answers")
        urlopen(Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT"))
        yield port
    finally:
        process.kill()
        process.wait()


class ObjectStoreJob:
    """The demo's job, with all of it in a bucket."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self.endpoint = folder, f"http://127.0.0.1:{port}"
        paths = write_example(folder)
        self._local = {name: paths[name] for name in ("model", *_DATA)}
        self._remote = {name: f"s3://{BUCKET}/given/{Path(path).name}" for name, path in self._local.items()}
        for name, path in self._local.items():
            fsspec.filesystem("s3").put_file(path, self._remote[name])

    def run_here(self) -> bytes:
        """The model of a run on this machine's disk."""
        self._run(self._local, str(self._folder / "out"), str(self._folder / "workspace"), "here", self.endpoint)
        return (self._folder / "out" / "model.onnx").read_bytes()

    def run(self, name: str, endpoint: str | None = None, workspace: str | None = None) -> tuple[bytes, str]:
        """The model of a run on the store as it answers at an endpoint, and what was said on standard error."""
        place = f"s3://{BUCKET}/{name}"
        out, workspace = f"{place}/out", workspace or f"{place}/workspace"
        said = self._run(self._remote, out, workspace, name, endpoint or self.endpoint)
        return Store(out).read("model.onnx") or b"", said

    def _run(self, inputs: dict[str, str], out: str, workspace: str, name: str, endpoint: str) -> str:
        options = {**{part: inputs[part] for part in _DATA}, "out": out, "workspace": workspace, **DEMO_OPTIONS}
        flags = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", str(value))]
        command = [sys.executable, "-m", "flows.command_line", "auto", inputs["model"], *flags, "--json"]
        own = {"PREFECT_HOME": str(self._folder / "prefect"), "NARROWCAST_CACHE": str(self._folder / name / "cache")}
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **own, "AWS_ENDPOINT_URL": endpoint},
        )
        if done.returncode:
            raise RuntimeError(f"{name}: exit code {done.returncode}: {done.stderr[-3000:]}")
        json.loads(done.stdout)
        if "Traceback" in done.stderr or KEYS["AWS_SECRET_ACCESS_KEY"] in done.stdout + done.stderr:
            raise RuntimeError(f"{name}: {done.stderr[-3000:]}")
        return done.stderr


def half_written(name: str) -> list[str]:
    """Objects of a finished run that are not what they should be."""
    place = Store(f"s3://{BUCKET}/{name}")
    results, wrong = ResultStore(place / "workspace" / "results"), []
    for key in results.place.names(""):
        found = results.find(key)
        wrong += [f"{key}: {found.flaw}"] if found.payload is None else []
    for stage in ("prepared", "exported"):
        inner = (place / "workspace" / "files").names(stage)
        for digest in {file.partition("/")[0] for file in inner}:
            beside = [file.partition("/")[2] for file in inner if file.startswith(f"{digest}/")]
            beside.remove("model.onnx")
            if refer(f"{place.url}/workspace/files/{stage}/{digest}/model.onnx", sorted(beside)).sha256 != digest:
                wrong.append(f"{stage}/{digest}")
    try:
        outcome = open_outcome(f"{place.url}/out")
        for table in [*TABLES, *(name for name in OPTIONAL_TABLES if (outcome.folder / f"{name}.arrow").exists())]:
            outcome.table(table)
    except NarrowcastError as error:
        wrong.append(str(error))
    return wrong


def plant(name: str, bomb: bytes) -> int:
    """Put a bomb in the place of every object of a workspace, and where Prefect would keep records; how many."""
    files, place = fsspec.filesystem("s3"), f"{BUCKET}/{name}/workspace"
    files.invalidate_cache()
    names = files.find(place)
    for path in names:
        files.pipe_file(path, bomb)
        record = {"storage_key": f"s3://{path}", "serializer": {"type": "pickle"}}
        files.pipe_file(f"{place}/records/{path.rpartition('/')[2]}", json.dumps(record).encode())
    return len(names)


def _checked(what: str, model: bytes, expected: bytes, name: str) -> list[str]:
    wrong = half_written(name)
    if model != expected:
        wrong.append("another model")
    print(f"{what}: {'; '.join(wrong) or 'the same model, every object whole'}", flush=True)
    return wrong


def _told(proxy: FaultyProxy, said: str, began: float) -> str:
    faults = ", ".join(f"{count} {fault}" for fault, count in sorted(proxy.faults.items()))
    return (
        f"{sum(proxy.faults.values())} of {proxy.requests} requests failed ({faults}), "
        f"{said.count('asked again')} asked again by narrowcast itself, {time.monotonic() - began:.0f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moto-python", required=True, help="a Python that has moto[server]")
    parser.add_argument("--share", type=float, default=0.2, help="of requests that fail")
    parser.add_argument("--outage", type=float, default=60, help="seconds in which nobody answers")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, s3_server(options.moto_python) as port:
        os.environ |= {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        job = ObjectStoreJob(Path(name), port)
        expected = job.run_here()
        began = time.monotonic()
        model, said = job.run("sound")
        wrong += _checked(f"a sound store, {time.monotonic() - began:.0f} s", model, expected, "sound")
        wrong += [said] if said else []
        began = time.monotonic()
        with faulty_proxy(port, options.share, options.seed) as proxy:
            model, said = job.run("failing", proxy.url)
        wrong += _checked(_told(proxy, said, began), model, expected, "failing")
        wrong += [] if proxy.faults else ["no request failed"]
        began = time.monotonic()
        with faulty_proxy(port, 0.0) as proxy:
            proxy.go_down(after=120, seconds=options.outage)
            model, said = job.run("down", proxy.url)
        wrong += _checked(_told(proxy, said, began), model, expected, "down")
        wrong += [] if "asked again" in said else ["the outage was not said"]
        crater = Path(name) / "crater"
        for number, bomb in enumerate(bombs(crater)):
            count = plant("sound", bomb)
            model, said = job.run(f"bombed{number}", workspace=f"s3://{BUCKET}/sound/workspace")
            same, mended = model == expected, said.count("damaged")
            print(f"{count} pickle bombs: {'the same model' if same else 'another model'}, {mended} said to be damaged")
            wrong += [] if same else ["another model"]
            wrong += ["a bomb went off"] if crater.exists() else []
    print("\n".join(wrong) or "all as on this machine's disk")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
