"""Hooks, replaced forwards, scripted and wrapped parts: code around a layer that no graph shows."""

from __future__ import annotations

import types
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from tests.conformance.case import Case, Expect, case
from tests.conformance.models import block, conv, image, net, norm, pair

HOOKED = Expect(0, ("hooked",))
OPAQUE = Expect(0, ("inside-opaque-call",))


def doubles_output(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output * 2


def halves_input(module: nn.Module, args: tuple[Tensor]) -> Tensor:
    return args[0] / 2


def with_keywords(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
    return output + len(kwargs)


def adds_keyword(module: nn.Module, args: Any, kwargs: Any) -> Any:
    return args, {**kwargs, "gain": 3.0}


def counts(module: Any, args: Any, output: Tensor) -> None:
    module.seen.append(tuple(output.shape))


def hook_on(path: str, register: str, hook: Any, **options: Any) -> Any:
    """Return what puts a hook on a part of a model."""

    def put(model: nn.Module) -> None:
        part: Any = model.get_submodule(path)
        part.seen = []
        getattr(part, register)(hook, **options)

    return put


def hooked(
    name: str, then: Any, why: str, expect: Expect, *others: Expect, make: Any = block, **rest: Any
) -> Case:
    return case(
        f"hook-{name}", make, image, expect, why, then=then, also_right=others, **rest
    )  # fmt: skip


FORWARD = "register_forward_hook"
BEFORE = "register_forward_pre_hook"


def nested() -> nn.Module:
    return nn.Sequential(block(), nn.ReLU(), block(4, 4))


def gained(self: Any, x: Tensor, gain: float = 1.0) -> Tensor:
    result: Tensor = self.b(self.c(x)) * gain
    return result


LAYERS = (
    hooked("on-the-conv", hook_on("0", FORWARD, doubles_output), "it runs between the two", HOOKED),
    hooked("on-the-norm", hook_on("1", FORWARD, doubles_output), "it runs on the norm's output",
           HOOKED),
    hooked("before-the-norm", hook_on("1", BEFORE, halves_input), "it runs between the two",
           HOOKED),
    hooked("before-the-conv", hook_on("0", BEFORE, halves_input), "it runs before both", HOOKED,
           Expect(1)),
    hooked("with-keywords-on-the-conv", hook_on("0", FORWARD, with_keywords, with_kwargs=True),
           "another signature", HOOKED),
    hooked("always-called-on-the-norm", hook_on("1", FORWARD, doubles_output, always_call=True),
           "another table", HOOKED),
    hooked("that-records-on-the-conv", hook_on("0", FORWARD, counts), "it sees the unfolded value",
           HOOKED, watch=("0.seen",)),
    hooked("that-records-on-the-norm", hook_on("1", FORWARD, counts), "it needs the layer to run",
           HOOKED, watch=("1.seen",)),
    hooked("on-the-activation-after", hook_on("2", FORWARD, doubles_output),
           "the fold is before it", Expect(1), make=lambda: nn.Sequential(*block(), nn.ReLU())),
    hooked("on-the-identity-between", hook_on("1", FORWARD, doubles_output), "it is none any more",
           Expect(0, ("no-linear-producer",)), HOOKED,
           make=lambda: nn.Sequential(conv(3, 4), nn.Identity(), norm(4))),
)  # fmt: skip

CONTAINERS = (
    hooked("on-a-block", hook_on("0", FORWARD, doubles_output), "what it sees is kept by folding "
           "inside", Expect(1, ("inside-opaque-call",)), Expect(2), make=nested),
    hooked("before-a-block", hook_on("2", BEFORE, halves_input), "likewise",
           Expect(1, ("not-captured",)), Expect(2), make=nested),
    hooked("that-records-on-a-block", hook_on("0", FORWARD, counts), "it needs the block to be run",
           Expect(1, ("inside-opaque-call",)), Expect(2), make=nested, watch=("0.seen",)),
    hooked("on-the-model", hook_on("", FORWARD, doubles_output), "it is around everything",
           Expect(1)),
    hooked("before-the-model", hook_on("", BEFORE, halves_input), "it is before everything",
           Expect(1)),
    hooked("with-keywords-on-the-model", hook_on("", BEFORE, adds_keyword, with_kwargs=True),
           "it changes the arguments", Expect(1), Expect(0, ("not-captured",)),
           make=lambda: pair(gained)),
    hooked("that-records-on-the-model", hook_on("", FORWARD, counts), "once per call", Expect(1),
           watch=("seen",)),
)  # fmt: skip


def replaced(self: Any, x: Tensor) -> Tensor:
    result: Tensor = type(self).forward(self, x) * 3
    return result


def bind(path: str) -> Any:
    """Return what gives one part of a model a forward of its own, bound to it."""

    def put(model: nn.Module) -> None:
        part: Any = model.get_submodule(path)
        part.forward = types.MethodType(replaced, part)

    return put


def wrap(path: str) -> Any:
    """Return what replaces a forward by a function that calls the old one."""

    def put(model: nn.Module) -> None:
        part: Any = model.get_submodule(path)
        old = part.forward

        def forward(x: Tensor) -> Tensor:
            result: Tensor = old(x) * 3
            return result

        part.forward = forward

    return put


WHOLE = Expect(0, ("not-captured",))

REPLACED = (
    hooked("forward-of-the-conv-replaced", bind("0"), "the class is not what runs", HOOKED),
    hooked("forward-of-the-norm-replaced", bind("1"), "the class is not what runs", HOOKED),
    hooked("forward-of-a-block-replaced", bind("0"), "the class is not what runs",
           Expect(1, ("not-captured",)), Expect(2), make=nested),
    hooked("forward-of-the-model-replaced", bind(""), "the class is not what runs", WHOLE,
           Expect(1)),
    hooked("forward-of-the-model-wrapped", wrap(""), "a closure holds the caller's own model",
           WHOLE, Expect(1)),
    hooked("forward-of-the-norm-wrapped", wrap("1"), "likewise", HOOKED),
)  # fmt: skip


class Tripled(nn.Sequential):
    """Runs more than its forward when it is called."""

    def __call__(self, x: Tensor) -> Tensor:
        result: Tensor = super().__call__(x) * 3
        return result


def scripted() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch.jit.script(block().double().eval())
    return nn.Sequential(part, nn.ReLU(), block(4, 4))


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch.jit.trace(block().double().eval(), image())  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return nn.Sequential(part, nn.ReLU(), block(4, 4))


def data_parallel() -> nn.Module:
    return nn.DataParallel(nn.Sequential(*block(), nn.ReLU()))


WRAPPED = (
    case(
        "hook-call-overridden-on-the-model",
        lambda: Tripled(*block()),
        image,
        WHOLE,
        "calling is more than forward",
        also_right=(Expect(1),),
    ),
    case(
        "hook-call-overridden-on-a-block",
        lambda: nn.Sequential(Tripled(*block()), nn.ReLU()),
        image,
        Expect(1),
        "calling is more than forward",
        also_right=(OPAQUE, WHOLE),
    ),
    case(
        "hook-scripted-part",
        scripted,
        image,
        Expect(1, ("inside-opaque-call",)),
        "its program is no Python",
    ),
    case(
        "hook-traced-part",
        traced,
        image,
        Expect(1, ("inside-opaque-call",)),
        "its program is no Python",
    ),
    case(
        "hook-the-model-is-scripted",
        lambda: scripted()[0],
        image,
        Expect(0),
        "the user is told to pass what it was scripted from",
        refused=True,
    ),
    case(
        "hook-data-parallel",
        data_parallel,
        image,
        Expect(1),
        "the wrapper takes any arguments, the model in it can be traced",
    ),
    case(
        "hook-norm-inside-an-untraceable-hooked-block",
        lambda: nn.Sequential(
            net(lambda s, x: s.block(x) if x.sum() > 0 else -s.block(x), block=block()),
            nn.ReLU(),
            block(4, 4),
        ),
        image,
        Expect(1, ("inside-opaque-call",)),
        "an untraceable part with a hook of its own",
        then=hook_on("0", FORWARD, doubles_output),
        also_right=(Expect(2), Expect(1, ("not-captured",))),
        once=False,
    ),
)

CASES = (*LAYERS, *CONTAINERS, *REPLACED, *WRAPPED)
