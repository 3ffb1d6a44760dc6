"""`narrowcast watch` on an S3 store: python -m tests.e2e.watch_object_store --moto-python PYTHON

The store is moto's server, as in tests.e2e.object_store, which says how to have it. Watched folder, output and
workspace are in its bucket. A new model is quantized, by a store that fails a fifth of all requests, to the bytes of a
look at a folder on this machine's disk. The next look reads neither model nor data. A model that is still on its way
is left for later; a changed one becomes another version beside the first, and the current one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from quant_core.storage.store import Store
from tests.e2e.faulty_proxy import faulty_proxy
from tests.e2e.object_store import BUCKET, KEYS, s3_server
from tests.e2e.watch_kills import watched_folder

_PLACE = f"s3://{BUCKET}"


class StoreWatch:
    """Looks at a folder of the bucket, and what is found wrong."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.wrong: list[str] = []
        self.shelf = Store(f"{_PLACE}/quantized/loose")

    def look(self, watched: str, out: str, workspace: str, endpoint: str | None = None) -> dict[str, str]:
        """What the command says of each model."""
        places = [watched, "--out", out, "--workspace", workspace, "--json"]
        own = {"PREFECT_HOME": str(self._folder / "prefect"), "NARROWCAST_CACHE": str(self._folder / "cache")}
        own |= {"AWS_ENDPOINT_URL": endpoint} if endpoint else {}
        command = [sys.executable, "-m", "flows.command_line", "watch", *places]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **own})
        if "Traceback" in done.stderr or KEYS["AWS_SECRET_ACCESS_KEY"] in done.stdout + done.stderr:
            self.wrong.append(done.stderr[-3000:])
        print("\n".join(f"    {look['name']}: {look['state']}: {look['says']}" for look in json.loads(done.stdout)))
        return {look["name"]: look["state"] for look in json.loads(done.stdout)}

    def look_at_the_store(self, endpoint: str | None = None) -> dict[str, str]:
        """A look at the bucket's folder."""
        return self.look(f"{_PLACE}/watched", f"{_PLACE}/quantized", f"{_PLACE}/steps", endpoint)

    def expect(self, what: str, holds: bool) -> None:
        """Note what does not hold."""
        print(f"{what}: {'yes' if holds else 'NO'}", flush=True)
        self.wrong += [] if holds else [what]

    def model(self) -> bytes:
        """The current model of the store."""
        current = json.loads(self.shelf.read("current.json") or b"{}")
        return self.shelf.read(current.get("model", "none")) or b""

    def versions(self) -> int:
        """How many versions are there."""
        return len({name.partition("/")[0] for name in self.shelf.names("") if "/" in name})


def watched(folder: Path, port: int) -> list[str]:
    """Look again and again while the store and its content change; what went wrong."""
    job, local, store = StoreWatch(folder), watched_folder(folder), Store(f"{_PLACE}/watched")
    for name in ("strict.onnx", "strict.yaml"):
        (local / name).unlink()
    Store(_PLACE).upload("watched", local)
    job.look(str(local), str(folder / "out"), str(folder / "workspace"))
    here = folder / "out" / "loose"
    expected = (here / json.loads((here / "current.json").read_text())["model"]).read_bytes()
    with faulty_proxy(port, 0.2) as proxy:
        job.expect("a new model meets its target", job.look_at_the_store(proxy.url) == {"loose.onnx": "met"})
    job.expect("with the bytes of a look at a disk", job.model() == expected)
    job.expect("though requests failed", bool(proxy.faults))
    with faulty_proxy(port, 0.0) as proxy:
        job.expect("the next look has nothing to do", job.look_at_the_store(proxy.url) == {"loose.onnx": "done"})
    read = [path for path in proxy.read if path.endswith((".onnx", ".npz")) and proxy.read[path]]
    job.expect(f"and reads neither model nor data {read or ''}".rstrip(), not read)
    changed = onnx.load(local / "loose.onnx")
    changed.graph.initializer[0].raw_data = onnx.numpy_helper.from_array(
        onnx.numpy_helper.to_array(changed.graph.initializer[0]) * 1.5
    ).raw_data
    content = changed.SerializeToString()
    store.write("loose.onnx", content[: len(content) // 2])
    job.expect("one that is on its way waits", job.look_at_the_store() == {"loose.onnx": "waiting"})
    store.write("loose.onnx", content)
    job.expect("a changed one is quantized", job.look_at_the_store() == {"loose.onnx": "met"})
    job.expect("as a second version, the current one", job.versions() == 2 and job.model() not in (b"", expected))
    return job.wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moto-python", required=True, help="a Python that has moto[server]")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, s3_server(options.moto_python) as port:
        os.environ |= {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        wrong = watched(Path(name), port)
    print("\n".join(wrong) or "all as it should be")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
