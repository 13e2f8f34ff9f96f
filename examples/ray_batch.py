"""Classify many images on many machines: an exported file, run by Ray Data on all workers.

Run it with ``pip install 'ray[data]'`` and ``python examples/ray_batch.py``; on a cluster it uses
the machines that Ray knows. Each worker loads the file once and then takes batches. Replace
``trained_model`` and ``images`` by your own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

import bnfuse
from bnfuse.zoo import randomize_statistics

if TYPE_CHECKING:
    import ray.data

WORKERS = 2
BATCH = 16


def trained_model() -> nn.Module:
    """Stand in for your model: any ``nn.Module`` in eval mode, with its trained weights."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    return randomize_statistics(model).eval()


def images() -> ray.data.Dataset:
    """Stand in for your images: ``ray.data.read_images``, ``read_parquet``, ..."""
    import ray.data

    pixels = np.random.default_rng(0).normal(size=(200, 3, 32, 32)).astype("float32")
    return ray.data.from_numpy(np.split(pixels, 10))


class Classifier:
    """Runs the file on batches; Ray makes one for each worker."""

    def __init__(self, content: bytes) -> None:
        """Load the file, which travels to the worker as bytes."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a core for each worker, as Ray reckons
        self.session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        self.input = self.session.get_inputs()[0].name

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Add the logits of each image, and the worker that computed them."""
        (logits,) = self.session.run(None, {self.input: batch["data"]})
        return {**batch, "logits": logits, "worker": np.full(len(logits), os.getpid())}


def classified(content: bytes, dataset: ray.data.Dataset) -> ray.data.Dataset:
    """Return the images with their logits."""
    import ray.data

    return dataset.map_batches(
        Classifier,
        fn_constructor_args=(content,),
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=WORKERS),
    )


def main(folder: Path) -> None:
    """Export once, run everywhere, compare with the model."""
    model, image = trained_model(), torch.randn(1, 3, 32, 32)
    done = bnfuse.export_onnx(model, folder / "classifier.onnx", (image,))
    rows = classified(done.path.read_bytes(), images()).take_all()

    with torch.no_grad():
        wanted = model(torch.from_numpy(np.stack([row["data"] for row in rows]))).numpy()
    error = np.abs(np.stack([row["logits"] for row in rows]) - wanted).max()
    workers = {int(row["worker"]) for row in rows}
    print(f"{len(rows)} images on {len(workers)} workers, largest difference {error:.1e}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
