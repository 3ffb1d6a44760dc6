"""Has a run that misses its target, against a real server, told to a webhook by the automation of deployments/.

python -m tests.e2e.notifications
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.e2e.prefect_server import PrefectServer, eventually, prefect_server
from tests.models import MODELS, samples

_TOP = Path(__file__).parents[2]
_BLOCK = """
import sys
from prefect.blocks.webhook import Webhook
Webhook(method="POST", url=sys.argv[1]).save("narrowcast")
"""
_RUN = """
import sys
from flows.auto_mixed_precision import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import TargetError
folder = sys.argv[1]
data = {part: f"{folder}/data.npz" for part in ("calibration", "evaluation")}
config = config_from(target={"metric": "l2", "limit": 1e-9}, wide="a16w16")
try:
    auto_mixed_precision(f"{folder}/model.onnx", config=config, output=f"{folder}/out", workspace=f"{folder}/steps", **data)
except TargetError:
    sys.exit(0)
sys.exit("it meets a target that no model can meet")
"""


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Return the URL of a server, and the list that what it receives is added to."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/told", received
    finally:
        server.shutdown()


def _call(server: PrefectServer, *command: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment: Mapping[str, str] = {**server.environment, "PATH": path, "PYTHONPATH": str(_TOP)}
    done = subprocess.run(command, cwd=_TOP, env=environment, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def told(folder: Path) -> dict[str, Any]:
    """Return what the webhook receives of a run that misses its target."""
    model = MODELS["chain"]()
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "data.npz", **samples(model, 8))
    with webhook() as (url, received), prefect_server(folder / "server") as server:
        _call(server, sys.executable, "-c", _BLOCK, url)
        for _ in range(2):  # the second time replaces the automation of the first
            _call(server, "deployments/notify.sh", "webhook/narrowcast")
        _call(server, sys.executable, "-c", _RUN, str(folder))
        eventually(lambda: received, 60, "the webhook is told")
        assert len(received) == 1, received
        return received[0]


def main() -> int:
    """Run it; print what was received."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        content = told(Path(name))
        print(json.dumps(content, indent=2))
        assert content["event"] == "narrowcast.run.missed"
        assert content["payload"]["model"].endswith("model.onnx") and "l2" in content["payload"]["reason"]
    print("all as it should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
