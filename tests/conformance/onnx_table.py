"""What tools that fold ONNX files were measured on, as PyTorch models: batch norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.case import Call, Expect, case
from tests.conformance.models import block, conv, given, image, net, norm
from tests.conformance.models import sample as tensor


def four_ranks() -> nn.Module:
    return net(
        lambda s, x, y, z, w: (s.b1(s.c1(x)), s.b2(s.c2(y)), s.b3(s.c3(z)), s.b4(s.c4(w))),
        c1=nn.Conv1d(3, 4, 3),
        b1=nn.BatchNorm1d(4),
        c2=conv(3, 4),
        b2=norm(4),
        c3=nn.Conv3d(2, 3, 2),
        b3=nn.BatchNorm3d(3),
        c4=conv(4, 8, groups=4),
        b4=norm(8),
    )


def residual_block(self: Any, x: Tensor) -> Tensor:
    return F.relu(self.b3(self.c3(x)) + self.b1(self.c1(x)) + self.b0(x))


def repvgg() -> nn.Module:
    return net(
        residual_block,
        c3=conv(4, 4, padding=1, bias=False),
        b3=norm(4),
        c1=conv(4, 4, 1, bias=False),
        b1=norm(4),
        b0=norm(4),
    )


def linear_reshape_norm(self: Any, x: Tensor) -> Tensor:
    y = self.l(x)
    result: Tensor = self.b(y.reshape(-1, 6)).reshape(y.shape)
    return result


PLAIN = (
    case(
        "onnx-conv1d-2d-3d-depthwise-norm",
        four_ranks,
        given((2, 3, 9), (2, 3, 6, 7), (1, 2, 3, 4, 5), (2, 4, 5, 6)),
        Expect(4),
        "every rank, and eight outputs from four groups",
    ),
    case(
        "onnx-transposed-norm",
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 5, 3, stride=2, output_padding=1), norm(5)),
        image,
        Expect(1),
        "the uncovered outputs hold the bias alone",
    ),
    case(
        "onnx-transposed-grouped-and-depthwise-norm",
        lambda: nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, groups=2),
            norm(6),
            nn.ConvTranspose2d(6, 6, 2, groups=6),
            norm(6),
        ),
        given((2, 4, 3, 4)),
        Expect(2),
        "output channels lie in groups",
        cites=("onnxruntime#14270", "onnxsim#228"),
    ),
    case(
        "onnx-gemm-norm",
        lambda: net(
            lambda s, x: s.b(torch.addmm(s.k, x, s.w, beta=0.5, alpha=2.0)),
            k=nn.Parameter(tensor(7)),
            w=nn.Parameter(tensor(5, 7)),
            b=nn.BatchNorm1d(7),
        ),
        given((4, 5)),
        Expect(1),
        "alpha and beta scale the weight and the bias",
        cites=("onnxscript#3027",),
    ),
    case(
        "onnx-matmul-norm",
        lambda: net(lambda s, x: s.b(x @ s.w), w=nn.Parameter(tensor(5, 7)), b=nn.BatchNorm1d(7)),
        given((4, 5)),
        Expect(1),
        "the weight stands on the right, its columns are the outputs",
        sized=True,
    ),
    case(
        "onnx-matmul-add-norm",
        lambda: net(
            lambda s, x: s.b(x @ s.w + s.k),
            w=nn.Parameter(tensor(5, 7)),
            k=nn.Parameter(tensor(7)),
            b=nn.BatchNorm1d(7),
        ),
        given((4, 5)),
        Expect(1),
        "the bias is added by hand",
        sized=True,
    ),
    case(
        "onnx-linear-reshape-norm",
        lambda: net(linear_reshape_norm, l=nn.Linear(5, 6), b=nn.BatchNorm1d(6)),
        given((2, 4, 5)),
        Expect(1),
        "the reshape leaves the last axis",
        cites=("onnxruntime#12522", "onnxruntime#22512"),
    ),
    case(
        "onnx-conv-norm-norm",
        lambda: nn.Sequential(conv(3, 4, bias=False), norm(4), norm(4), norm(4)),
        image,
        Expect(3),
        "three in a row and no bias to begin with",
    ),
    case(
        "onnx-conv-identity-norm",
        lambda: nn.Sequential(conv(3, 4), nn.Identity(), nn.Identity(), norm(4), nn.Identity()),
        image,
        Expect(1),
        "identities on both sides",
    ),
    case(
        "onnx-conv-relu",
        lambda: nn.Sequential(conv(3, 4), norm(4), nn.ReLU()),
        image,
        Expect(1),
        "the activation follows the fold",
    ),
    case(
        "onnx-half-conv-norm",
        lambda: block(),
        given((2, 3, 6, 7), dtype=torch.float16),
        Expect(1),
        "the fold is computed wide and rounded once, the result stays half",
        dtype=torch.float16,
        rtol=1e-2,
    ),
    case(
        "onnx-weight-is-an-input",
        lambda: net(lambda s, x, w: s.b(F.conv2d(x, w)), b=norm(4)),
        given((2, 3, 6, 7), (4, 3, 3, 3)),
        Expect(0, ("computed-constants",)),
        "a weight that the caller gives is no constant",
        more=lambda: (Call((tensor(2, 3, 6, 7), tensor(4, 3, 3, 3, seed=9))),),
    ),
)


CASES = (*PLAIN,)
