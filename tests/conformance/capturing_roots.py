"""Models that are a single layer, a graph or full of keywords, and what becomes of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from tests.conformance.case import Case, Expect, case
from tests.conformance.models import block, conv, given, image, net, norm, pair, sample


def residual_stage(self: Any, x: Tensor) -> Tensor:
    y = F.relu(self.b1(self.c1(x)))
    y = self.b2(self.c2(y))
    return F.relu(y + self.b3(self.c3(x)))


def residual_network() -> nn.Module:
    stage = net(
        residual_stage,
        c1=conv(3, 4, padding=1), b1=norm(4), c2=conv(4, 4, padding=1), b2=norm(4),
        c3=conv(3, 4, 1), b3=norm(4),
    )  # fmt: skip
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return nn.Sequential(stage, *head)


def exports_without_norms(model: nn.Module, fused: nn.Module) -> None:
    """The emitted file computes what the model does and holds no batch norm."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        done = bnfuse.export_onnx(fused.float(), path, (image()[0].float(),))
        assert done.verification is not None
        assert done.verification.passed
        kinds = {node.op_type for node in onnx.load(path).graph.node}
        assert "BatchNormalization" not in kinds
        assert "Conv" in kinds


def names_every_norm(model: nn.Module, fused: nn.Module) -> None:
    """The report names all of them, where they went and why they stayed."""
    told = bnfuse.report(fused)
    names = {name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {row.name for row in (*told.folded, *told.merged, *told.kept)} == names
    for row in told.folded:
        assert row.into
        assert fused.get_submodule(row.into) is not None
    for row in told.kept:
        assert str(row.reason) in str(told)


ROOTS = (
    case(
        "e2-the-model-is-a-norm",
        lambda: norm(3),
        image,
        Expect(0, ("no-linear-producer",)),
        "there is nothing around it",
        cites=("pytorch#102085",),
    ),
    case("e2-the-model-is-a-conv", lambda: conv(3, 4), image, Expect(0), "nothing to do"),
    case("e2-the-model-is-empty", nn.Sequential, image, Expect(0), "it returns what it is given"),
    case(
        "e2-the-model-is-a-traced-graph",
        lambda: fx.symbolic_trace(nn.Sequential(block(), nn.ReLU(), block(4, 4))),
        image,
        Expect(2),
        "a graph goes in as a graph",
    ),
    case(
        "e2-a-part-is-a-traced-graph",
        lambda: nn.Sequential(fx.symbolic_trace(block()), nn.ReLU(), block(4, 4)),
        image,
        Expect(2),
        "its forward is generated code",
    ),
)


def by_keyword(name: str, make: Any, inputs: Any = image) -> Case:
    return case(
        f"e3-{name}",
        make,
        inputs,
        Expect(1),
        "arguments are known by name, not by position",
        cites=("pytorch#196165",),
    )


KEYWORDS = (
    by_keyword("layers-called-by-keyword", lambda: pair(lambda s, x: s.b(input=s.c(input=x)))),
    by_keyword(
        "functional-conv-all-by-keyword",
        lambda: net(
            lambda s, x: s.b(F.conv2d(weight=s.w, padding=1, groups=2, dilation=2, input=x)),
            w=nn.Parameter(sample(4, 2, 3, 3)),
            b=norm(4),
        ),
        given((2, 4, 6, 7)),
    ),
    by_keyword(
        "functional-transposed-conv-mixed",
        lambda: net(
            lambda s, x: s.b(F.conv_transpose2d(x, s.w, None, 2, groups=2, output_padding=1)),
            w=nn.Parameter(sample(4, 2, 3, 3)),
            b=norm(4),
        ),
        given((2, 4, 3, 4)),
    ),
    by_keyword(
        "torch-conv-by-position",
        lambda: net(
            lambda s, x: s.b(torch.conv2d(x, s.w, s.k, (2, 1), (1, 0))),
            w=nn.Parameter(sample(4, 3, 3, 3)), k=nn.Parameter(sample(4)), b=norm(4),
        ),
    ),
)  # fmt: skip

OTHERS = (
    case(
        "e4-deep-names",
        lambda: net(lambda s, x: s.a["x"][0](x), a=nn.ModuleDict({"x": nn.ModuleList([block()])})),
        image,
        Expect(1),
        "a fold must not stop silently where names have many parts",
        cites=("pytorch#130023",),
    ),
    case(
        "e5-exported-file",
        residual_network,
        image,
        Expect(3),
        "the emitted file is what is deployed",
        cites=("pytorch#166797", "pytorch#169178"),
        also=exports_without_norms,
    ),
    case(
        "e6-every-norm-is-accounted-for",
        lambda: nn.Sequential(block(), nn.ReLU(), norm(4), nn.Sigmoid(), block(4, 4)),
        image,
        Expect(2, ("no-linear-producer",)),
        "a norm that disappeared is told from one that was lost",
        cites=("pytorch#112579", "pytorch#112945"),
        also=names_every_norm,
        also_right=(Expect(3),),
    ),
    case(
        "e7-defined-in-another-order-than-called",
        lambda: net(
            lambda s, x: s.b(s.c(s.d(s.e(x)))), b=norm(3), c=conv(3, 3), d=norm(3), e=conv(3, 3)
        ),
        image,
        Expect(2),
        "the order of attributes says nothing",
    ),
)


CASES = (
    *ROOTS,
    *KEYWORDS,
    *OTHERS,
)
