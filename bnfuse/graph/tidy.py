"""Turn a finished program into a module: release what the graph does not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from bnfuse.affine import forget
from bnfuse.graph.module import NotCaptured, OptimizedModule

if TYPE_CHECKING:
    from bnfuse.graph.program import Program


def assemble(program: Program) -> OptimizedModule:
    """Return the module that runs the program's graph, with the original's face.

    Containers keep their types and places. A layer that is not run any more and held tensors is
    replaced by ``nn.Identity``, so that indices into containers stay; its tensors are released.
    """
    root = program.root
    class_name = type(root).__name__
    _release(program)
    known = set(dir(nn.Module)) | set(dir(OptimizedModule))
    root.__dict__["_uncaptured_methods"] = frozenset(
        name
        for name in dir(type(root))
        if name not in known and not name.startswith("_") and callable(getattr(type(root), name))
    )
    for tensor in [*root.parameters(), *root.buffers()]:
        forget(tensor)
    program.graph.lint()
    return OptimizedModule(root, program.graph, class_name)


def _release(program: Program) -> None:
    """Drop unread tensors and close the forwards that the graph went through."""
    called = {str(n.target) for n in program.graph.nodes if n.op == "call_module"}
    read = {str(n.target) for n in program.graph.nodes if n.op == "get_attr"}
    run = {id(inner) for path in called for inner in program.module(path).modules()}
    for path, module in list(program.root.named_modules(remove_duplicate=False)):
        if id(module) in run or id(module) in program.by_reference:
            continue
        if path and _is_unread_leaf(module, path, read):
            _replace(program.root, path, nn.Identity())
            continue
        _release_tensors(module, path, read)
        if path:
            module.__dict__["forward"] = NotCaptured(path)


def _is_unread_leaf(module: nn.Module, path: str, read: set[str]) -> bool:
    """Whether a module without children holds tensors, none of which the graph reads."""
    if module._modules:
        return False
    names = [*module._parameters, *module._buffers]
    return bool(names) and not any(f"{path}.{name}" in read for name in names)


def _release_tensors(module: nn.Module, path: str, read: set[str]) -> None:
    """Set the module's own unread tensors to None: the names stay, the state_dict entries go."""
    for table in (module._parameters, module._buffers):
        for name in table:
            full = f"{path}.{name}" if path else name
            if full not in read:
                table[name] = None
    if isinstance(module, nn.modules.batchnorm._NormBase) and module.num_batches_tracked is None:
        # Else it would ask for its counter in a state dict that came without versions, a plain one.
        module.track_running_stats = False


def _replace(root: nn.Module, path: str, module: nn.Module) -> None:
    prefix, _, name = path.rpartition(".")
    root.get_submodule(prefix).add_module(name, module)
