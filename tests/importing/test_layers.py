"""Operations with weights, beside onnxruntime, and the layers they become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn

from bnfuse.errors import RequestError
from bnfuse.importing.layers import OPERATORS
from tests.importing.support import (
    Case,
    assert_same,
    check,
    computed,
    converted,
    model,
    numbers,
    run,
    value,
)

if TYPE_CHECKING:
    from pathlib import Path

LINE, IMAGE, VOLUME = numbers(2, 4, 9), numbers(2, 4, 9, 8), numbers(2, 4, 5, 6, 7)
KERNEL, BIAS = numbers(6, 4, 3, 3, seed=1), numbers(6, seed=2)
GROUPED = numbers(6, 2, 3, 3, seed=1)
UP = numbers(4, 6, 3, 3, seed=1)
MATRIX = numbers(5, 4, seed=1)
ROWS = numbers(3, 4)
STATISTICS = [*(numbers(4, seed=s) for s in (1, 2, 3)), np.abs(numbers(4, seed=4)) + 0.5]
WIDE = {"strides": [2, 1], "pads": [1, 2, 1, 2], "dilations": [1, 2]}


def norm(x: Any, **attributes: Any) -> Case:
    """Return a batch norm of a value."""
    return Case("BatchNormalization", [x], STATISTICS, attributes)


LAYERS = (
    (Case("Conv", [IMAGE], [KERNEL]), nn.Conv2d),
    (Case("Conv", [IMAGE], [KERNEL, BIAS], WIDE), nn.Conv2d),
    (Case("Conv", [IMAGE], [GROUPED, BIAS], {"group": 2}), nn.Conv2d),
    (Case("Conv", [LINE], [numbers(6, 4, 3, seed=1), BIAS], {"pads": [1, 1]}), nn.Conv1d),
    (Case("Conv", [VOLUME], [numbers(6, 4, 3, 2, 1, seed=1)], opset=13), nn.Conv3d),
    (Case("Conv", [IMAGE], [KERNEL, BIAS], {"pads": [0, 1, 2, 3]}, label="uneven"), nn.Conv2d),
    *(
        (Case("Conv", [IMAGE], [KERNEL], {"auto_pad": mode, "strides": [2, 3]}), nn.Conv2d)
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")
    ),
    (Case("Conv", [IMAGE], [KERNEL], {"auto_pad": "SAME_UPPER"}), nn.Conv2d),
    (Case("ConvTranspose", [IMAGE], [UP, BIAS]), nn.ConvTranspose2d),
    (
        Case("ConvTranspose", [IMAGE], [UP], {"strides": [2, 3], "pads": [1, 1, 1, 1],
             "output_padding": [1, 2]}), nn.ConvTranspose2d,
    ),
    (
        Case("ConvTranspose", [IMAGE], [UP], {"strides": [2, 2], "pads": [1, 1, 0, 0]},
             label="uneven"), nn.ConvTranspose2d,
    ),
    (Case("ConvTranspose", [IMAGE], [numbers(4, 3, 3, 3)], {"group": 2}), nn.ConvTranspose2d),
    (Case("ConvTranspose", [LINE], [numbers(4, 6, 3), BIAS]), nn.ConvTranspose1d),
    (Case("ConvTranspose", [VOLUME], [numbers(4, 6, 2, 2, 2)]), nn.ConvTranspose3d),
    (norm(ROWS), nn.BatchNorm1d),
    (norm(LINE), nn.BatchNorm1d),
    (norm(IMAGE, epsilon=0.1), nn.BatchNorm2d),
    (norm(VOLUME, momentum=0.5), nn.BatchNorm3d),
    (Case("MatMul", [ROWS], [MATRIX.T.copy()]), nn.Linear),
    (Case("MatMul", [numbers(2, 3, 4)], [MATRIX.T.copy()], label="of three axes"), nn.Linear),
    (Case("Gemm", [ROWS], [MATRIX], {"transB": 1}), nn.Linear),
    (Case("Gemm", [ROWS], [MATRIX.T.copy(), numbers(5)]), nn.Linear),
    (Case("Gemm", [ROWS], [MATRIX, numbers(1, 5)], {"transB": 1}, label="row"), nn.Linear),
)  # fmt: skip
CALLS = (
    Case("Conv", [IMAGE, KERNEL], [BIAS], open_batch=False),
    Case("ConvTranspose", [IMAGE, UP], [BIAS], open_batch=False),
    Case("BatchNormalization", [IMAGE, *STATISTICS], open_batch=False),
    Case("BatchNormalization", [numbers(2, 4, 2, 2, 2, 2)], STATISTICS, label="of six axes"),
    Case("MatMul", [ROWS, MATRIX.T.copy()], open_batch=False),
    Case("MatMul", [numbers(2, 3, 4)], [numbers(2, 4, 5)], open_batch=False, label="stack"),
    Case("MatMul", [MATRIX], [ROWS.T.copy()[:, 0].copy()], label="vector"),
    Case("Gemm", [ROWS, MATRIX.T.copy()], [numbers(5)], {"alpha": 0.5, "beta": 2.0},
         open_batch=False),
    Case("Gemm", [ROWS.T.copy()], [MATRIX.T.copy(), numbers(3, 1)], {"transA": 1},
         open_batch=False, label="column"),
    Case("Gemm", [ROWS], [MATRIX, np.array(0.5, dtype=np.float32)], {"transB": 1},
         label="number"),
    Case("Gemm", [ROWS], [MATRIX.T.copy()], {"alpha": 2.0}),
)  # fmt: skip


@pytest.mark.parametrize(("case", "kind"), LAYERS, ids=str)
def test_becomes_a_layer(case: Case, kind: type[nn.Module], tmp_path: Path) -> None:
    module = check(case, tmp_path)
    assert [type(layer) for layer in module.children()] == [kind]
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not any(layer.training for layer in module.modules())


@pytest.mark.parametrize("case", CALLS, ids=str)
def test_becomes_a_call(case: Case, tmp_path: Path) -> None:
    module = check(case, tmp_path)
    assert not any(node.op == "call_module" for node in module.graph.nodes)


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case, _ in LAYERS} == set(OPERATORS)


def test_layers_are_called_like_their_weights(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "stem.0.weight", "stem.0.bias"], ["a"], name="/stem/Conv"),
        helper.make_node("Conv", ["a", "stem.0.weight"], ["b"], name="/again/Conv"),
        helper.make_node("MatMul", ["b", "onnx::MatMul_7"], ["y"], name="/head/MatMul"),
    ]
    kept = {"stem.0.weight": numbers(4, 4, 1, 1), "stem.0.bias": numbers(4)}
    kept["onnx::MatMul_7"] = numbers(8, 3)
    proto = model(nodes, [value("x", IMAGE.shape)], ["y"], kept)
    module = converted(proto, tmp_path)
    layers = {name: layer for name, layer in module.named_modules() if not list(layer.children())}
    assert list(layers) == ["stem.0", "stem.0_1", "head.MatMul"]
    assert layers["stem.0"].weight is layers["stem.0_1"].weight  # what is shared stays so
    assert_same(computed(module, [IMAGE]), run(proto, [IMAGE]))


def test_one_statistic_may_serve_two_norms(tmp_path: Path) -> None:
    # https://github.com/onnx/optimizer/issues/174: folding one must not change the other
    names = ["x", "s", "s", "s", "v"]
    nodes = [
        helper.make_node("BatchNormalization", names, ["a"], name="one"),
        helper.make_node("BatchNormalization", ["a", *names[1:]], ["y"], name="two"),
    ]
    kept = {"s": STATISTICS[0], "v": STATISTICS[3]}
    proto = model(nodes, [value("x", IMAGE.shape)], ["y"], kept)
    assert_same(computed(converted(proto, tmp_path), [IMAGE]), run(proto, [IMAGE]))


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (Case("Conv", [numbers(1, 2, 3, 3, 3, 3)], [numbers(2, 2, 1, 1, 1, 1)]), "4 axes"),
        (norm(IMAGE, training_mode=1), "it computes statistics, as in training"),
        (
            Case("ConvTranspose", [IMAGE], [UP], {"output_shape": [11, 10]}),
            "asks for a shape of its result",
        ),
        (Case("ConvTranspose", [IMAGE], [UP], {"auto_pad": "SAME_UPPER"}), "auto_pad is SAME"),
        (Case("ConvTranspose", [IMAGE], [UP], {"pads": [0, 0, 1, 1]}), "no paddings"),
    ],
    ids=str,
)
def test_refuses(case: Case, why: str, tmp_path: Path) -> None:
    proto = case.proto()
    with pytest.raises(RequestError, match=why):
        converted(proto, tmp_path)


def test_a_stride_with_an_open_size_cannot_be_padded_to_the_same(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])
    proto = model([node], [value("x", [1, 4, "h", "w"])], ["y"], {"w": KERNEL})
    with pytest.raises(RequestError, match="the size of axis 2 of its input 0 is open"):
        converted(proto, tmp_path)


def test_half_precision_stays(tmp_path: Path) -> None:
    x = ROWS.astype(np.float16)
    proto = Case("MatMul", [x], [MATRIX.T.astype(np.float16)]).proto()
    module = converted(proto, tmp_path)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float16}
