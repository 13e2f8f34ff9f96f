"""Fold a trained classifier, look at what happened, and write a file for ONNX Runtime.

Run it with ``python examples/fold_and_export.py``; replace ``trained_model`` by your own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

import bnfuse
from bnfuse.zoo import randomize_statistics


def trained_model() -> nn.Module:
    """Stand in for your model: any ``nn.Module`` in eval mode, with its trained weights."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 16, 3, groups=16, bias=False),
        nn.BatchNorm2d(16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
        nn.BatchNorm1d(10),
    )
    return randomize_statistics(model).eval()


def main(folder: Path) -> None:
    """Fold, check, export."""
    model, image = trained_model(), torch.randn(1, 3, 64, 64)

    fused = bnfuse.optimize(model)
    print(bnfuse.report(fused))  # a row for each batch norm: into what, or why not

    bnfuse.verify(model, fused, (image,)).raise_if_failed()

    done = bnfuse.export_onnx(model, folder / "classifier.onnx", (image,))
    print(done.verification)  # the file has run in ONNX Runtime and was compared
    print(done.path, done.nodes)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
