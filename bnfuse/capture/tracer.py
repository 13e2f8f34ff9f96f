"""A torch.fx tracer that keeps what the standard one loses, and notices what no graph can keep."""

from __future__ import annotations

import threading
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import fx, nn

from bnfuse.capture.code import codes_of, untraceable
from bnfuse.capture.proxy import RecordingProxy, paths_of
from bnfuse.capture.signature import parameters_of
from bnfuse.capture.watch import CaptureError, Notices, for_proxies, watching, watching_state
from bnfuse.graph.border import BorderMap
from bnfuse.graph.clamp import ChannelClamp
from bnfuse.graph.hooks import is_hooked
from bnfuse.kernels import FusedLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TENSOR_METHODS = frozenset(
    {"add", "clone", "contiguous", "detach", "div", "flatten", "float", "mean", "mul", "permute",
     "relu", "reshape", "sigmoid", "softmax", "squeeze", "sub", "sum", "tanh", "to", "transpose",
     "type_as", "unsqueeze", "view"}
)  # fmt: skip


class ModelTracer(fx.Tracer):
    """Traces a model's forward into a graph.

    Beyond the standard tracer: buffers are read through ``get_attr`` like parameters; a module
    with hooks, or with a forward of its own on the instance, stays one call, so that its hooks
    run, and so does TorchScript; dictionaries and data classes that are returned keep their type;
    what a graph cannot keep is noticed.

    Args:
        by_reference: Identities of modules that are the caller's own; they stay one call.
        opaque: Paths of modules that stay one call as well.

    Attributes:
        notices: What was noticed.
        tensors: Names of inputs that the forward asked to be tensors, or told apart from others.
    """

    proxy_buffer_attributes = True

    def __init__(
        self, by_reference: frozenset[int] = frozenset(), opaque: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self.notices = Notices()
        self.tensors: set[str] = set()
        self._by_reference = by_reference
        self._opaque = opaque
        self._paths: dict[int, tuple[str, torch.Tensor]] | None = None
        self._thread = threading.get_ident()

    def capture(self, root: nn.Module) -> fx.Graph:
        """Trace the forward of ``root``, optional arguments at their defaults.

        Raises:
            CaptureError: The graph would lose something.
            Exception: Whatever the forward raises when it is run on proxies.
        """
        watched = watching(root, self.notices, for_proxies())
        try:
            with watched, watching_state(root, self.notices):
                return self.trace(root)
        finally:
            self._paths = None  # who knows a tensor is counted

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the proxy for a node."""
        return RecordingProxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a call of ``m`` stays one node."""
        if is_hooked(m) or isinstance(m, torch.jit.ScriptModule) or id(m) in self._by_reference:
            return True
        if module_qualified_name in self._opaque:
            return True
        if isinstance(m, BorderMap | ChannelClamp | FusedLayer):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Trace a call of a module, one made in the forward out of the model's layers included.

        A trace wraps the calls of all modules in all threads: those of others go on as they are.
        """
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        if isinstance(m, torch.jit.ScriptModule) or is_hooked(m):
            return super().call_module(m, forward, args, kwargs)
        if type(m).forward is nn.Sequential.forward and m not in (self.submodule_paths or ()):
            return forward(*args, **kwargs)
        if not self.is_leaf_module(m, self.path_of_module(m)):
            for code in codes_of(m):
                if what := untraceable(code):
                    raise self.notices.refuse(f"its forward {what}")
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:  # noqa: ARG002 - the signature is torch's
        """Return what reads a tensor of the model, without looking through all as torch does."""
        if not isinstance(attr_val, torch.Tensor) or threading.get_ident() != self._thread:
            return attr_val
        self._paths = paths_of(self.root) if self._paths is None else self._paths
        path, known = self._paths.get(id(attr_val), ("", None))
        if known is not attr_val:
            return attr_val
        if path not in parameter_proxy_cache:
            parameter_proxy_cache[path] = self.create_proxy("get_attr", path, (), {})
        return parameter_proxy_cache[path]

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Make a placeholder for each argument that has no default."""
        if not is_module or concrete_args is not None:
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        required = [p for p in parameters_of(root_fn) if p.is_required]
        given = [self.create_proxy("placeholder", p.name, (), {}) for p in required]

        def call(root: nn.Module, *proxies: fx.Proxy) -> Any:
            pairs = list(zip(required, proxies, strict=True))
            positional = [proxy for p, proxy in pairs if not p.is_keyword_only]
            return root_fn(
                root, *positional, **{p.name: proxy for p, proxy in pairs if p.is_keyword_only}
            )

        call.__annotations__ = {}
        return call, [self.root, *given]

    def create_arg(self, a: Any) -> Any:
        """Turn a value met while tracing into an argument of a node, keeping the type of results.

        The standard tracer makes a plain ``dict`` of every dictionary.
        """
        if isinstance(a, dict) and type(a) is not dict:
            if is_dataclass(a):  # such as the outputs of Hugging Face models
                given = {f.name: getattr(a, f.name) for f in fields(a)}
                keywords = {k: self.create_arg(v) for k, v in given.items() if v is not None}
                return self.create_node("call_function", type(a), (), keywords)
            if not _is_made_of_pairs(a):
                raise self.notices.refuse(f"its forward returns a {type(a).__name__}")
            pairs = [(key, self.create_arg(value)) for key, value in a.items()]
            return self.create_node("call_function", type(a), (pairs,), {})
        return super().create_arg(a)

    def type_of(self, node: fx.Node) -> type:
        """Return the type of a value, for a forward that asks.

        Raises:
            CaptureError: It cannot be told.
        """
        if node.op == "placeholder":
            self.tensors.add(str(node.target))
            return torch.Tensor
        if _yields_tensor(self.root, node):
            return torch.Tensor
        raise self.notices.refuse(f"its forward asks for the type of {node.name!r}")

    def to_bool(self, obj: fx.Proxy) -> NoReturn:
        """Note that the forward branches on a value."""
        raise self.notices.refuse(f"its forward branches on the value of {obj.node.name!r}")

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Note that the forward loops over a value, other than to unpack it."""
        try:
            return super().iter(obj)
        except fx.proxy.TraceError:
            raise self.notices.refuse(f"its forward loops over {obj.node.name!r}") from None


def _is_made_of_pairs(mapping: dict[Any, Any]) -> bool:
    """Whether a dictionary's class makes an equal one of its pairs of key and value."""
    try:
        made = type(mapping)(list(mapping.items()))
    except Exception:
        return False
    return type(made) is type(mapping) and list(made) == list(mapping)


def _yields_tensor(root: nn.Module, node: fx.Node) -> bool:
    """Whether the value of a node is a tensor for sure."""
    if node.op == "get_attr":
        return True
    if node.op == "call_module":
        return _returns_tensor(root.get_submodule(str(node.target)))
    if node.op == "call_method":
        return node.target in _TENSOR_METHODS
    return str(getattr(node.target, "__module__", "")).startswith("torch.nn")


def _returns_tensor(module: nn.Module) -> bool:
    """Whether a layer is one of PyTorch's that return one tensor."""
    is_own = type(module).__module__.startswith("torch.nn.modules.")
    returns_more = isinstance(module, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention)
    return is_own and not (
        returns_more or is_hooked(module) or getattr(module, "return_indices", False)
    )


__all__ = ["CaptureError", "ModelTracer", "RecordingProxy"]
