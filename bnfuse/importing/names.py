"""Names of ONNX files as names of layers: paths whose parts are plain identifiers.

Names in a file are any text, and a graph's names become source text when it is run, so nothing but
letters, digits and underscores passes.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass, field

from torch import fx, nn

_SEPARATORS = re.compile(r"[./]+")
_FOREIGN = re.compile(r"[^0-9A-Za-z_]+")
_TAKEN_BY_MODULES = frozenset({"self", *dir(fx.GraphModule), *dir(nn.Module())})


def identifier(name: str) -> str:
    """Return a name as one part of a path, or as the name of an argument.

    >>> identifier("input:0"), identifier("class"), identifier("forward")
    ('input_0', 'class_', 'forward_')
    """
    cleaned = _FOREIGN.sub("_", name) or "_"
    return f"{cleaned}_" if keyword.iskeyword(cleaned) or cleaned in _TAKEN_BY_MODULES else cleaned


def path(name: str) -> str:
    """Return a name as the path of a layer.

    >>> path("/layer1/layer1.0/conv1/Conv"), path("layer1.0.conv1"), path("onnx::Conv_12")
    ('layer1.layer1.0.conv1.Conv', 'layer1.0.conv1', 'onnx_Conv_12')
    """
    parts = [part for part in _SEPARATORS.split(name) if part]
    return ".".join(identifier(part) for part in parts) or "_"


@dataclass(slots=True)
class Paths:
    """Gives out paths, none twice and none inside another.

    >>> taken = Paths()
    >>> taken.unused("layer.conv"), taken.unused("layer.conv"), taken.unused("layer.conv.weight")
    ('layer.conv', 'layer.conv_1', 'layer_conv_weight')
    """

    _leaves: set[str] = field(default_factory=set)
    _folders: set[str] = field(default_factory=set)

    def unused(self, wanted: str) -> str:
        """Return the path of this name, or one like it where it cannot be had."""
        chosen, number = wanted, 0
        if any(folder in self._leaves for folder in _above(wanted)):
            wanted = chosen = wanted.replace(".", "_")
        while chosen in self._leaves or chosen in self._folders:
            number += 1
            chosen = f"{wanted}_{number}"
        self._leaves.add(chosen)
        self._folders.update(_above(chosen))
        return chosen


def _above(name: str) -> list[str]:
    """Return the paths of everything that contains a path."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
