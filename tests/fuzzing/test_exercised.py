"""What a program exercises is read from its text, and all that is drawn is listed."""

from __future__ import annotations

import random

from tests.fuzzing.drawing import drawn_program
from tests.fuzzing.exercised import exercised
from tests.fuzzing.listed import LISTED
from tests.fuzzing.program import Program

NAMES = [name for names in LISTED.values() for name in names]


def program(*lines: str, dtype: str = "float64") -> Program:
    layers = (
        ("norm", "nn.BatchNorm2d(3)"),
        ("conv", "nn.Conv2d(3, 3, 1)"),
        ("both", "nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True))"),
        ("c", "nn.Parameter(torch.empty(3))"),
    )
    steps = tuple(("step", line) for line in lines)
    return Program(((1, 3, 4, 4),), layers, (("conv", "both"),), steps, "v9", dtype=dtype)


def found(*lines: str) -> dict[str, int]:
    made = exercised(program(*lines))
    del made["float64"], made["weight shared by two layers"]
    return dict(made)


def test_layers_count_for_each_call() -> None:
    assert found("v1 = self.conv(x0)", "v2 = self.norm(self.conv(v1))") == {
        "nn.Conv2d": 2,
        "nn.BatchNorm2d": 1,
        "layer called again": 1,
    }
    assert found("v1 = self.norm(x0)", "v2 = self.norm(v1)")["norm called again"] == 1


def test_a_container_counts_for_what_is_in_it() -> None:
    wanted = {"nn.Sequential": 1, "nn.Conv2d": 1, "nn.ReLU, in place": 1}
    assert found("v1 = self.both(x0)") == wanted


def test_arithmetic_of_values_is_told_from_that_with_constants() -> None:
    assert found("v1 = x0 + x0", "v2 = v1 * self.c", "v3 = -v1", "v4 = v1 @ self.c") == {
        "v + v": 1,
        "v * c": 1,
        "-v": 1,
        "v @ c": 1,
    }
    assert found("v1 = x0.add(x0.sigmoid())") == {".add": 1, ".sigmoid": 1}


def test_writes_are_told_from_what_returns_something_new() -> None:
    assert found("v1 += 2.0", "v1 *= v2", "v1[:, :1] *= 2.0", "v1[..., :1] = 0.5") == {
        "v += c": 1,
        "v *= v": 1,
        "v[..] *= c": 1,
        "v[..] = c": 1,
    }
    assert found("v2 = F.relu(v1, inplace=True)", "v3 = F.leaky_relu(v1, 0.1, True)") == {
        "F.relu, in place": 1,
        "F.leaky_relu, in place": 1,
    }


def test_parts_of_a_value() -> None:
    assert found("v2 = v1[:, 1:]", "v3 = v1[:, 0]", "v4 = v1[:, None]", "v5 = v1[:, [0, 1]]") == {
        "v[slice]": 1,
        "v[index]": 1,
        "v[None]": 1,
        "v[list]": 1,
    }
    assert found("v2 = v1.chunk(2, 1)", "v3 = v2[0]") == {".chunk": 1, "piece": 1}
    assert found("v2 = v1.view(v1.shape[0], -1)") == {".view": 1}


def test_the_dtype_and_shared_weights_count_once_for_a_model() -> None:
    made = exercised(program("v1 = x0.exp()", dtype="mixed_float16"))
    assert made == {".exp": 1, "mixed_float16": 1, "weight shared by two layers": 1}


def test_all_that_is_drawn_is_listed_once() -> None:
    assert len(set(NAMES)) == len(NAMES)
    drawn = [drawn_program(random.Random(f"drawn {number}")) for number in range(80)]
    assert {name for each in drawn for name in exercised(each)} <= set(NAMES)
