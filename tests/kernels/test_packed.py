"""Packed weights are made once, again after each change, and go nowhere with a copy."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import torch
from torch import nn

from bnfuse.kernels.packed import Cache, Packed

WEIGHT = nn.Parameter(torch.ones(2, 2), requires_grad=False)
SIZE = torch.Size([1, 2])


def choose(made: list[Packed]) -> Any:
    def chosen(packed: Packed) -> Any:
        made.append(packed)
        return lambda *_: packed.weight

    return chosen


def test_made_once_for_each_shape() -> None:
    cache, made = Cache(), list[Packed]()
    kernels = [cache.kernel(WEIGHT, SIZE, choose(made)) for _ in range(3)]
    assert len(made) == 1
    assert kernels[0] is kernels[2]
    cache.kernel(WEIGHT, torch.Size([2, 2]), choose(made))
    assert made[0] is made[1]


def test_made_again_when_the_weight_changed() -> None:
    cache, made = Cache(), list[Packed]()
    weight = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    for change in (
        lambda: None,
        lambda: weight.mul_(2),
        lambda: setattr(weight, "data", torch.ones(2, 2)),
    ):
        change()
        cache.kernel(weight, SIZE, choose(made))
    cache.kernel(nn.Parameter(weight.detach(), requires_grad=False), SIZE, choose(made))
    assert len({id(packed) for packed in made}) == 4


def test_weights_whose_writes_are_not_counted() -> None:
    made = list[Packed]()
    with torch.inference_mode():
        assert Cache().kernel(torch.ones(2, 2), SIZE, choose(made)) is None

    class Subclass(torch.Tensor):
        pass

    assert Cache().kernel(torch.ones(2, 2).as_subclass(Subclass), SIZE, choose(made)) is None
    assert made == []


def test_shapes_are_forgotten_when_there_are_many() -> None:
    cache, made = Cache(), list[Packed]()
    for size in range(200):
        cache.kernel(WEIGHT, torch.Size([size]), choose(made))
    assert len(made[-1].kernels) <= 64


def test_released_and_made_again() -> None:
    cache, made = Cache(), list[Packed]()
    cache.kernel(WEIGHT, SIZE, choose(made))
    cache.release()
    cache.kernel(WEIGHT, SIZE, choose(made))
    assert made[0] is not made[1]


def test_copies_are_empty() -> None:
    cache = Cache()
    cache.kernel(WEIGHT, SIZE, choose([]))
    for other in (copy.deepcopy(cache), copy.copy(cache), pickle.loads(pickle.dumps(cache))):
        assert other.packed is None


def test_threads_make_one() -> None:
    cache, made, barrier = Cache(), list[Packed](), threading.Barrier(8)

    def run() -> None:
        barrier.wait()
        cache.kernel(WEIGHT, SIZE, choose(made))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
