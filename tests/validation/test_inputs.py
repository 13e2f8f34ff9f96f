"""Sets of inputs."""

from __future__ import annotations

import torch

from bnfuse.validation.inputs import cast_floating, floating_dtype, input_sets
from tests.support import noise


def test_the_example_comes_first_and_the_rest_looks_like_it() -> None:
    x, mask = noise(64, 64) * 3 + 5, torch.ones(2, dtype=torch.bool)
    sets = input_sets((x,), {"extra": {"mask": mask, "flag": True}}, count=3, seed=0)
    assert len(sets) == 3
    assert torch.equal(sets[0][0][0], x)
    for args, kwargs in sets[1:]:
        assert args[0].shape == x.shape
        assert not torch.equal(args[0], x)
        assert abs(float(args[0].mean()) - 5) < 0.3
        assert abs(float(args[0].std()) - 3) < 0.3
        assert torch.equal(kwargs["extra"]["mask"], mask)
        assert kwargs["extra"]["flag"] is True


def test_a_constant_example_still_gives_both_signs() -> None:
    (drawn,), _ = input_sets((torch.zeros(100),), None, count=2, seed=0)[1]
    assert (drawn > 0).any()
    assert (drawn < 0).any()


def test_sets_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    first, again, other = (input_sets((noise(9),), None, 2, seed)[1][0][0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_only_floating_point_is_cast() -> None:
    (x, n), _ = cast_floating(((noise(2), torch.arange(2)), {}), torch.float16)
    assert (x.dtype, n.dtype) == (torch.float16, torch.int64)


def test_the_dtype_is_that_of_the_parameters_first() -> None:
    assert floating_dtype(torch.nn.Linear(1, 1).half(), ((noise(2),), {})) is torch.float16
    assert floating_dtype(torch.nn.ReLU(), ((noise(2),), {})) is torch.float64
    assert floating_dtype(torch.nn.ReLU(), ((), {})) is torch.get_default_dtype()
