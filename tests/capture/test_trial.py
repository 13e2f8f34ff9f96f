"""What an example call does that a graph of it would not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn

from bnfuse.capture import call_inside, copy_model
from bnfuse.capture.trial import Trial, cloned
from bnfuse.capture.watch import CaptureError
from tests.support import noise

X = noise(2, 3)


class Running(nn.Module):
    """Runs a named way of treating its input, and holds a list and a buffer."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.held = way, [X]
        self.register_buffer("scale", torch.ones(1, dtype=torch.float64))

    def forward(self, xs: list[torch.Tensor]) -> object:
        return getattr(self, self.way)(xs)

    def appends(self, xs: list[torch.Tensor]) -> torch.Tensor:
        xs.append(xs[0])
        return xs[0] * 2

    def replaces(self, xs: list[torch.Tensor]) -> torch.Tensor:
        xs[0] = xs[0] * 2
        return xs[0]

    def returns_given(self, xs: list[torch.Tensor]) -> object:
        return {"inside": xs}

    def returns_held(self, xs: list[torch.Tensor]) -> object:
        return self.held

    def returns_twice(self, xs: list[torch.Tensor]) -> object:
        made = [xs[0] * 2]
        return made, made

    def requires_gradient(self, xs: list[torch.Tensor]) -> object:
        return xs[0].mean().requires_grad_()

    def infers(self, xs: list[torch.Tensor]) -> object:
        with torch.inference_mode():
            return xs[0] * 2

    def writes(self, xs: list[torch.Tensor]) -> object:
        xs[0].mul_(2)
        return xs[0], xs[0][0], self.get_buffer("scale").add_(1)

    def raises(self, xs: list[torch.Tensor]) -> object:
        raise ValueError("not today")


@pytest.mark.parametrize(
    ("way", "clause"),
    [
        ("appends", "changes a container it was given"),
        ("replaces", "changes a container it was given"),
        ("returns_given", "returns a container that others hold"),
        ("returns_held", "returns a container that others hold"),
        ("returns_twice", "its result holds a container twice"),
        ("requires_gradient", "requires a gradient"),
        ("infers", "made in inference mode"),
    ],
)
def test_what_a_graph_would_not_do(way: str, clause: str) -> None:
    with pytest.raises(CaptureError, match=clause):
        Trial.of(Running(way), (([X],), {}))


def test_module_arguments_and_generator_stay_as_they_were() -> None:
    model, x, seed = Running("writes"), X.clone(), torch.get_rng_state()
    trial = Trial.of(model, (([x],), {}))
    assert torch.equal(x, X)
    assert float(model.get_buffer("scale")) == 1
    assert torch.equal(torch.get_rng_state(), seed)
    assert torch.equal(trial.given[0], X * 2)
    assert len(trial.returned) == 3


def test_what_the_forward_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="not today"):
        Trial.of(Running("raises"), (([X],), {}))


def test_a_tensor_given_twice_stays_one() -> None:
    (copied,), keywords = cloned((([X, X],), {"x": X, "n": 3}))
    assert copied[0] is copied[1] is keywords["x"]
    assert copied[0] is not X
    assert keywords["n"] == 3


def graph_of(way: str) -> fx.Graph:
    """Return a graph that gives back one of several things made of its input."""
    graph = fx.Graph()
    x = graph.placeholder("x")
    doubled = graph.call_function(torch.mul, (x, 2))
    viewed = graph.call_method("view", (doubled, -1))
    narrow = graph.call_method("float", (doubled,))
    noisy = graph.call_function(torch.mul, (x, 2 + 1e-15))
    other = graph.call_function(torch.mul, (x, 2.1))
    copied = graph.call_method("clone", (doubled,))
    pairs: dict[str, Any] = {
        "same": (doubled, doubled), "rounded": (noisy, noisy), "other": (other, other),
        "not shared": (doubled, copied), "one": (doubled,), "input": (x, x),
        "shape": (viewed, viewed), "dtype": (narrow, narrow), "number": (2.0, 2.0),
    }  # fmt: skip
    graph.output(pairs[way])
    return graph


class Doubling(nn.Module):
    """Returns one tensor twice."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = x * 2
        return y, y


@pytest.mark.parametrize("way", ["same", "rounded"])
def test_a_graph_that_does_the_same(way: str) -> None:
    Trial.of(Doubling(), ((X,), {})).check(nn.Module(), graph_of(way), ((X,), {}))


@pytest.mark.parametrize("way", ["other", "not shared", "one", "input", "shape", "dtype", "number"])
def test_a_graph_that_does_not(way: str) -> None:
    trial = Trial.of(Doubling(), ((X,), {}))
    with pytest.raises(CaptureError, match="its export does not do what it does"):
        trial.check(nn.Module(), graph_of(way), ((X,), {}))


class Drawing(nn.Module):
    """Adds noise and masks some of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + torch.rand(3, dtype=x.dtype)).masked_fill(x > 0, float("-inf"))


def test_random_numbers_and_infinities_agree() -> None:
    graph = fx.symbolic_trace(nn.Identity()).graph
    trial = Trial.of(nn.Identity(), ((X / 0,), {}))
    trial.check(nn.Module(), graph, ((X / 0,), {}))
    with pytest.raises(CaptureError):
        trial.check(nn.Module(), graph, ((-X / 0,), {}))
    twice = [Trial.of(Drawing(), ((X,), {})).returned[0] for _ in range(2)]
    assert torch.equal(*twice)


class Outer(nn.Module):
    """Calls a module twice, with a changed value and a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.other = nn.ReLU(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first: torch.Tensor = self.inner(input=x * 2)
        return self.inner(first)


def test_the_first_call_inside() -> None:
    model, seed = copy_model(Outer()).model, torch.get_rng_state()
    assert call_inside(model, "", ((X,), {})) == ((X,), {})
    found = call_inside(model, "inner", ((X,), {}))
    assert found is not None
    assert found[0] == ()
    assert torch.equal(found[1]["input"], X * 2)
    assert call_inside(model, "other", ((X,), {})) is None
    assert call_inside(model, "inner", ((None,), {})) is None
    assert torch.equal(torch.get_rng_state(), seed)
