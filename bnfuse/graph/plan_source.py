"""Python source of a function that runs the nodes of a graph, with all it calls bound to names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from bnfuse.kernels.packed import Kernel


class Source:
    """Collects lines, and binds constants.

    Nodes are added in order; a value is let go after its last reader.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._inputs: list[str] = []
        self._names: dict[fx.Node, str] = {}
        self._bound: dict[str, Any] = {"Tensor": Tensor}

    def bind(self, node: fx.Node, value: Any) -> None:
        """Let a node stand for a value that is there already."""
        self._names[node] = self._constant(value)

    def add(self, node: fx.Node) -> None:
        """Add an input, the output, or the call of a function or a method."""
        if node.op == "placeholder":
            self._inputs.append(self._name(node))
        elif node.op == "output":
            self._lines.append(f"return {self._text(node.args[0])}")
        elif node.op == "call_method":
            owner, *args = node.args
            self._assign(node, f"{self._text(owner)}.{node.target}({self._given(args, node)})")
        else:
            self.call(node, node.target)

    def call(self, node: fx.Node, function: Any) -> None:
        """Add a call of a function or a module with the arguments of a node."""
        self._assign(node, f"{self._constant(function)}({self._given(node.args, node)})")

    def call_kernel(
        self,
        node: fx.Node,
        layer: Any,
        kernel: Kernel,
        facts: tuple[torch.Size | None, torch.dtype, Tensor | None],
    ) -> None:
        """Add a call of a kernel, and of its layer for a value of another form.

        Args:
            node: The call of the layer.
            layer: The layer.
            kernel: What it chose.
            facts: The shape and the dtype it chose it for, and its bias.
        """
        size, dtype, bias = facts
        x, *others = (self._text(argument) for argument in node.args)
        fits = f"{x}.shape == {self._constant(size)} and {x}.dtype is {self._constant(dtype)}"
        given = ", ".join([x, self._constant(bias), *others])
        kinds = " and ".join(f"type({value}) is Tensor" for value in (x, *others))
        call = f"{self._constant(kernel)}({given})"
        plain = f"{self._constant(layer)}({', '.join([x, *others])})"
        self._assign(node, f"{call} if {kinds} and {fits} else {plain}")

    def compiled(self) -> Callable[..., Any]:
        """Return the function."""
        body = "\n    ".join(self._lines)
        text = f"def run({', '.join(self._inputs)}):\n    {body}\n"
        exec(compile(text, "<bnfuse plan>", "exec"), self._bound)
        run: Callable[..., Any] = self._bound["run"]
        return run

    def _assign(self, node: fx.Node, expression: str) -> None:
        self._lines.append(f"{self._name(node)} = {expression}")
        after = [
            self._names[source]
            for source in dict.fromkeys([node, *node.all_input_nodes])
            if source.op != "get_attr" and max(source.users, default=node) is node
        ]
        if after:
            self._lines.append(f"{' = '.join(after)} = None")

    def _name(self, node: fx.Node) -> str:
        return self._names.setdefault(node, f"v{len(self._names)}")

    def _constant(self, value: Any) -> str:
        name = f"c{len(self._bound)}"
        self._bound[name] = value
        return name

    def _given(self, args: Any, node: fx.Node) -> str:
        keywords = [f"{name}={self._text(value)}" for name, value in node.kwargs.items()]
        return ", ".join([*map(self._text, args), *keywords])

    def _text(self, value: Any) -> str:
        """Return an expression for an argument; containers are made anew at each call."""
        if isinstance(value, fx.Node):
            return self._names[value]
        if isinstance(value, slice):
            return f"slice({', '.join(map(self._text, (value.start, value.stop, value.step)))})"
        if isinstance(value, dict):
            pairs = (f"{self._constant(k)}: {self._text(v)}" for k, v in value.items())
            return f"{{{', '.join(pairs)}}}"
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            inner = "".join(f"{self._text(item)}, " for item in value)
            return f"[{inner}]" if isinstance(value, list) else f"({inner})"
        return self._constant(value)
