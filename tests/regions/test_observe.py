"""Shapes of values in a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from bnfuse.regions.observe import call_arguments, observed
from tests.regions.support import One, Three, Two, Written, traced
from tests.support import noise

if TYPE_CHECKING:
    from bnfuse.validation.inputs import Arguments


def seen(model: nn.Module, example: Arguments | None = None) -> dict[str, Any]:
    program, _ = traced(model)
    return {node.name: what for node, what in observed(program, example).items()}


class Optional(Written):
    """A forward with arguments that may be left out."""

    def forward(self, x: Any, y: Any = 2, z: Any = 3) -> Any:
        return self.run(self, x, y, z)


def test_the_example_tells_shapes_and_dtypes_of_tensors() -> None:
    model = One(lambda m, x: m.a(x).argmax(1).size(0) + x, a=nn.Conv2d(3, 4, 3))
    found = seen(model, ((torch.zeros(5, 3, 6, 7),), {}))
    assert found == {
        "x": ((5, 3, 6, 7), torch.float32),
        "a": ((5, 4, 4, 5), torch.float32),
        "argmax": ((5, 4, 5), torch.int64),
        "add": ((5, 3, 6, 7), torch.float32),
        "output": ((5, 3, 6, 7), torch.float32),
    }


def test_keyword_arguments_find_their_places() -> None:
    model = Optional(lambda m, x, y, z: (x * y, x * z))
    found = seen(model, ((torch.ones(2),), {"z": torch.ones(5, 2)}))
    assert (found["mul"][0], found["mul_1"][0]) == ((2,), (5, 2))
    found = seen(model, ((torch.ones(2), torch.ones(4, 2)), {}))
    assert (found["mul"][0], found["mul_1"][0]) == ((4, 2), (2,))


def test_an_example_that_does_not_run_tells_nothing() -> None:
    model = One(lambda m, x: m.a(x), a=nn.Linear(3, 4))
    assert seen(model, ((torch.ones(2, 5),), {})) == {}
    assert seen(model, ((), {})) == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_without_example_images_of_the_dtype_of_the_model_are_tried(dtype: torch.dtype) -> None:
    model = One(lambda m, x: m.b(m.a(x).flatten(1)), a=nn.Conv2d(5, 1, 3), b=nn.Linear(62 * 62, 2))
    found = seen(model.to(dtype))
    assert found["x"] == ((1, 5, 64, 64), dtype)
    assert found["b"] == ((1, 2), dtype)


def test_each_input_has_the_channels_and_the_axes_that_its_layer_reads() -> None:
    layers = {"a": nn.Conv2d(6, 4, 3, groups=2), "b": nn.Conv1d(2, 4, 300)}
    model = Three(lambda m, x, y, z: (m.a(x.detach()), m.a(x), m.b(y), z.exp()), **layers)
    found = seen(model)
    assert found["x"][0] == (1, 6, 224, 224)
    assert found["y"][0][:2] == (1, 2)
    assert found["y"][0][2] > 300
    assert found["z"][0] == (1, 3, 224, 224)


def test_volumes_have_about_as_many_points_as_images() -> None:
    found = seen(nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU()))
    (given,) = {shape for shape, _ in found.values() if shape[1] == 3}
    assert given == (1, 3, 37, 37, 37)


def test_arguments_with_defaults_are_left_out() -> None:
    found = seen(Optional(lambda m, x, y, z: x * y * z))
    assert found.keys() == {"x", "mul", "mul_1", "output"}


def test_where_no_image_runs_nothing_is_known() -> None:
    assert seen(One(lambda m, x: m.a(x), a=nn.Linear(17, 4))) == {}


def test_a_forward_that_writes_leaves_no_trace() -> None:
    """Neither in buffers of the model nor in tensors of the example, however held."""

    def run(m: Any, x: Any, y: Any) -> Any:
        m.count.add_(y)
        return x[0].mul_(2) + y.add_(1)

    model = Two(run, count=torch.zeros(1))
    example = [torch.ones(1)], torch.ones(1)
    assert "add__1" in seen(model, (example[:1], {"y": example[1]}))
    assert "add__1" in seen(model, (example, {}))
    assert float(model.get_buffer("count")) == 0
    assert (float(example[0][0]), float(example[1])) == (1, 1)


def test_a_gradient_is_not_asked_for() -> None:
    x = noise(2).requires_grad_()
    seen(One(lambda m, x: x * 2), ((x,), {}))
    assert x.grad_fn is None
    assert x.requires_grad


def test_guessed_inputs_are_the_same_every_time_and_draw_no_random_numbers() -> None:
    program, _ = traced(One(lambda m, x: m.a(x), a=nn.Conv2d(3, 4, 3)))
    state = torch.get_rng_state()
    one, other = (next(call_arguments(program, None))[0] for _ in range(2))
    assert one.shape == (1, 3, 224, 224)
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
