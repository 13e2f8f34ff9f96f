"""Shapes and axes: where equal sizes look like one axis, and where weights have another layout."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.case import Call, Case, Expect, case
from tests.conformance.models import conv, given, net, norm, sample

KEPT = Expect(0, ("no-linear-producer",))


def levit(self: Any, x: Tensor) -> Tensor:
    y = self.l(x)
    result: Tensor = self.b(y.flatten(0, 1)).reshape_as(y)
    return result


def transposed(name: str, make: Any, shape: tuple[int, ...], why: str) -> Case:
    return case(
        f"b3-{name}",
        make,
        given(shape),
        Expect(1),
        why,
        cites=("pytorch#180995", "ultralytics#25364"),
    )  # fmt: skip


LINEAR = (
    case(
        "b1-linear-on-three-axes-norm-over-axis-1",
        lambda: net(lambda s, x: s.b(s.l(x)), l=nn.Linear(5, 7), b=nn.BatchNorm1d(7)),
        given((2, 7, 5)),
        Expect(0, ("other-axis",)),
        "the linear layer writes axis 2, the norm reads axis 1, both of size 7",
        cites=("torchao#4116", "onnxruntime#22512", "pytorch#118990"),
        sized=True,
        may_refuse=True,
    ),
    case(
        "b1-linear-on-two-or-three-axes",
        lambda: net(lambda s, x: s.b(s.l(x)), l=nn.Linear(7, 7), b=nn.BatchNorm1d(7)),
        given((4, 7)),
        Expect(1),
        "the fold is right for two axes, and must not be taken for three",
        cites=("torchao#4116",),
        may_refuse=True,
        more=lambda: (Call((sample(2, 7, 7),)),),
    ),
    case(
        "b1-linear-transposed-norm",
        lambda: net(
            lambda s, x: s.b(s.l(x).transpose(1, 2)), l=nn.Linear(5, 7), b=nn.BatchNorm1d(7)
        ),
        given((2, 7, 5)),
        Expect(1),
        "the transposition brings the written axis to where the norm reads",
        sized=True,
    ),
    case(
        "b1-linear-on-three-axes-other-size",
        lambda: net(lambda s, x: s.b(s.l(x)), l=nn.Linear(5, 6), b=nn.BatchNorm1d(7)),
        given((2, 7, 5)),
        Expect(0, ("other-axis",)),
        "here the sizes tell",
        cites=("pytorch#118990",),
    ),
    case(
        "b2-levit",
        lambda: net(levit, l=nn.Linear(5, 6, bias=False), b=nn.BatchNorm1d(6)),
        given((2, 4, 5)),
        Expect(1),
        "flattening batch and length leaves the channel axis",
        cites=("onnxruntime#12522", "optimum#348", "tf2onnx#1929"),
    ),
    case(
        "b5-square-linear-transposed-norm",
        lambda: net(lambda s, x: s.b(s.l(x).t()), l=nn.Linear(4, 4), b=nn.BatchNorm1d(4)),
        given((4, 4)),
        KEPT,
        "after the transposition the norm reads the batch axis, of the same size",
        cites=("onnxruntime#32228", "onnxruntime#32418"),
        also_right=(Expect(0, ("other-axis",)),),
    ),
    case(
        "b5-weight-transposed-in-forward-square",
        lambda: net(
            lambda s, x: s.b(F.linear(x, s.w.t())),
            w=nn.Parameter(sample(5, 5)),
            b=nn.BatchNorm1d(5),
        ),
        given((4, 5)),
        Expect(1),
        "rows of the transposed weight are columns of the stored one",
        cites=("onnxruntime#32228",),
        sized=True,
    ),
    case(
        "b5-square-matmul",
        lambda: net(lambda s, x: s.b(x @ s.w), w=nn.Parameter(sample(5, 5)), b=nn.BatchNorm1d(5)),
        given((4, 5)),
        Expect(1),
        "columns of the right factor are the outputs",
        sized=True,
    ),
)

TRANSPOSED = (
    transposed(
        "two-groups",
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), norm(6)),
        (2, 4, 3, 4),
        "more than one group, fewer than channels",
    ),
    transposed(
        "depthwise-multiplier-two",
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 8, 3, groups=4), norm(8)),
        (2, 4, 3, 4),
        "two outputs from each input",
    ),
    transposed(
        "square",
        lambda: nn.Sequential(nn.ConvTranspose2d(5, 5, 3), norm(5)),
        (2, 5, 3, 4),
        "a check of sizes cannot see the wrong axis",
    ),
    transposed(
        "one-spatial-axis-grouped",
        lambda: nn.Sequential(
            nn.ConvTranspose1d(4, 4, 4, stride=3, padding=1, output_padding=2, groups=2),
            nn.BatchNorm1d(4),
        ),
        (2, 4, 5),
        "square groups, stride, and outputs that only the bias reaches",
    ),
    transposed(
        "three-spatial-axes-grouped",
        lambda: nn.Sequential(
            nn.ConvTranspose3d(4, 4, (1, 2, 3), dilation=(1, 2, 1), groups=2, bias=False),
            nn.BatchNorm3d(4),
        ),
        (1, 4, 2, 3, 3),
        "no bias, another kernel on each axis",
    ),
    transposed(
        "output-size-given-at-the-call",
        lambda: net(
            lambda s, x: s.b(s.c(x, output_size=(8, 9))),
            c=nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
            b=norm(6),
        ),
        (2, 4, 3, 4),
        "the layer is called with a second argument",
    ),
)


def scaled(name: str, shape: tuple[int, ...], expect: Expect, why: str, **rest: Any) -> Case:
    return case(
        f"b4-{name}",
        lambda: net(lambda s, x: s.c(x) * s.k, c=conv(3, 4, 3, padding=1), k=sample(*shape)),
        given((4, 3, 4, 4)),
        expect,
        why,
        cites=("onnxruntime#12498", "openvino#1882"),
        **rest,
    )


CONSTANTS = (
    scaled("constant-along-width", (1, 1, 1, 4), Expect(0, ops={"mul": 1}), "per column"),
    scaled("constant-along-height", (1, 1, 4, 1), Expect(0, ops={"mul": 1}), "per row"),
    scaled("constant-along-batch", (4, 1, 1, 1), Expect(0, ops={"mul": 1}), "per image"),
    scaled("vector", (4,), Expect(0, ops={"mul": 1}), "a vector counts from the right: per column"),
    scaled("constant-per-channel", (4, 1, 1), Expect(None, ops={"mul": 0}), "per channel"),
    scaled("constant-per-channel-and-column", (4, 1, 4), Expect(0, ops={"mul": 1}), "per both"),
)


CASES = (
    *LINEAR,
    *TRANSPOSED,
    *CONSTANTS,
)
