"""A torch.fx tracer that keeps what the standard one loses."""

from __future__ import annotations

import inspect
import operator
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from bnfuse.graph.guards import add_guard, assume_default
from bnfuse.graph.hooks import is_hooked

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN = (type(None), bool, int, float, str)
_IN_PLACE = "iadd iand ifloordiv ilshift imatmul imod imul ior ipow irshift isub itruediv ixor"


class CaptureError(Exception):
    """Tracing would lose something; the message says what."""


class InPlaceProxy(fx.Proxy):
    """A proxy that records ``x += y`` as the in-place operation it is.

    The standard proxy has no ``__iadd__``, so Python turns ``x += y`` into ``x = x + y``, and other
    names of the same tensor keep their old values.
    """


def _recorder(name: str) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    target = getattr(operator, name)

    def record(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", target, (self, other), {})

    return record


for _name in _IN_PLACE.split():
    setattr(InPlaceProxy, f"__{_name}__", _recorder(_name))


@dataclass(frozen=True, slots=True)
class _Parameter:
    """One parameter of the forward being traced."""

    name: str
    default: Any
    keyword_only: bool


class ModelTracer(fx.Tracer):
    """Traces a model's forward into a graph.

    Beyond the standard tracer: buffers are read through ``get_attr`` like parameters; a module
    with hooks, or with a forward of its own on the instance, stays one call, so that its hooks
    run; an argument with a default is captured at its default and guarded; dictionaries and data
    classes that are returned keep their type.
    """

    proxy_buffer_attributes = True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the proxy for a node."""
        return InPlaceProxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a call of ``m`` stays one node."""
        return is_hooked(m) or super().is_leaf_module(m, module_qualified_name)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Make a placeholder for each parameter of the forward."""
        if not is_module or concrete_args is not None:
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        positional: list[Any] = [self.root]
        keywords: dict[str, Any] = {}
        for parameter in _parameters(root_fn):
            value = self._argument(parameter)
            if parameter.keyword_only:
                keywords[parameter.name] = value
            else:
                positional.append(value)

        def call(*arguments: Any) -> Any:
            return root_fn(*arguments, **keywords)

        call.__annotations__ = {}
        return call, positional

    def _argument(self, parameter: _Parameter) -> Any:
        """Return a proxy for a required argument, the guarded default for an optional one."""
        if parameter.default is inspect.Parameter.empty:
            return self.create_proxy("placeholder", parameter.name, (), {})
        given = self.create_proxy("placeholder", parameter.name, (parameter.default,), {})
        add_guard(self.graph, assume_default, given.node, parameter.default, parameter.name)
        return parameter.default

    def create_arg(self, a: Any) -> Any:
        """Turn a value met while tracing into an argument of a node, keeping the type of results.

        The standard tracer makes a plain ``dict`` of every dictionary.
        """
        if isinstance(a, dict) and type(a) is not dict:
            if is_dataclass(a):  # such as the outputs of Hugging Face models
                given = {f.name: getattr(a, f.name) for f in fields(a)}
                keywords = {k: self.create_arg(v) for k, v in given.items() if v is not None}
                return self.create_node("call_function", type(a), (), keywords)
            pairs = [(key, self.create_arg(value)) for key, value in a.items()]
            return self.create_node("call_function", type(a), (pairs,), {})
        return super().create_arg(a)


def _parameters(forward: Callable[..., Any]) -> list[_Parameter]:
    """Return the parameters of a forward after ``self``.

    Raises:
        CaptureError: It takes ``*args`` or ``**kwargs``, or has a default a graph cannot hold.
    """
    found: list[_Parameter] = []
    for parameter in list(inspect.signature(forward).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise CaptureError(f"its forward takes any number of arguments ({parameter})")
        default = parameter.default
        if default is not parameter.empty and not isinstance(default, _PLAIN):
            raise CaptureError(f"the argument {parameter.name!r} has a default that is no literal")
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        found.append(_Parameter(parameter.name, default, keyword_only))
    return found


def retrace(root: nn.Module, forward: Callable[..., Any]) -> fx.Graph:
    """Trace the generated ``forward`` of a graph module again, each module one call.

    Args:
        root: The module tree that the source reads as ``self``.
        forward: The compiled source.
    """

    class _Rebuilt(nn.Module):
        pass

    _Rebuilt.forward = forward
    host = _Rebuilt()
    host.__dict__.update(root.__dict__)
    return _SourceTracer().trace(host)


class _SourceTracer(ModelTracer):
    """Traces generated source: modules stay calls, defaults stay placeholders' defaults."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - the signature is torch's
        """Every module is a call of its own."""
        return True

    def _argument(self, parameter: _Parameter) -> Any:
        """The guards stand in the source already."""
        default = () if parameter.default is inspect.Parameter.empty else (parameter.default,)
        return self.create_proxy("placeholder", parameter.name, default, {})
