"""The Triton server that ships in nvidia-pytriton, on loopback."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUIREMENTS = ("nvidia-pytriton==0.7.0", "numpy<2", "onnxruntime==1.32.0")
SECONDS = 120


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is running.

    Attributes:
        url: Where it listens.
        log: What it says.
    """

    url: str
    log: Path

    def ask(self, path: str, body: Any = None) -> Any:
        """Return what it answers, as plain data."""
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.url}/v2/{path}", data, timeout=SECONDS) as answer:
            return json.loads(answer.read() or b"{}")

    def infer(self, model: str, x: Any) -> tuple[str, Any]:
        """Return the version that answered, and its first output as an array."""
        name = self.ask(f"models/{model}")["inputs"][0]["name"]
        # Tensors travel as bytes behind the JSON: KServe's protocol, extension "binary data".
        size = {"binary_data_size": x.nbytes}
        given = {"name": name, "shape": list(x.shape), "datatype": "FP32", "parameters": size}
        head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
        request = urllib.request.Request(
            f"{self.url}/v2/models/{model}/infer",
            head + x.tobytes(),
            {"Inference-Header-Content-Length": str(len(head))},
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            length = int(answer.headers["Inference-Header-Content-Length"])
            body = answer.read()
        made = json.loads(body[:length])
        (output,) = made["outputs"]
        return made["model_version"], np.frombuffer(body[length:], "float32").reshape(
            output["shape"]
        )

    def wait_for(self, path: str, process: subprocess.Popen[bytes]) -> None:
        """Wait until it answers."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                self.ask(path)
            except (OSError, urllib.error.URLError):
                if process.poll() is not None:
                    break
                time.sleep(0.2)
            else:
                return
        raise AssertionError(f"the server does not answer:\n{self.log.read_text()[-4000:]}")


@contextmanager
def running(python: Path, repository: Path, folder: Path) -> Iterator[Server]:
    """Run a server of all models of a repository, which loads versions when it is told to.

    Args:
        python: The Python of an environment with the requirements.
        repository: What it serves.
        folder: Where to put its backend and its log.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = python.parents[1] / "lib" / f"python{version}" / "site-packages"
    shipped = packages / "pytriton" / "tritonserver"
    # The backend looks for what starts Python beside itself.
    backend = folder / "backends" / "python"
    shutil.copytree(shipped / "backends" / "python", backend)
    for part in (shipped / "python_backend_stubs" / version).iterdir():
        shutil.copy(part, backend)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    libraries = (packages / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR"))
    command = [
        str(shipped / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={folder / 'backends'}",
        "--model-control-mode=explicit",
        "--load-model=*",
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--disable-auto-complete-config",
    ]
    server = Server(f"http://127.0.0.1:{port}", folder / "server.log")
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            command,
            # Models see neither PYTHONPATH nor the environment, but the current folder first.
            cwd=packages,
            env={"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            server.wait_for("health/ready", process)
            yield server
        finally:
            process.terminate()
            process.wait(SECONDS)
