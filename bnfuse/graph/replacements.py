"""Which values took the place of others, and when their readers are told.

``torch.fx`` replaces an argument of a node by going through all of them. Where each of the thousand
arms of one concatenation is replaced in turn, that is a million steps. Until the pass is over, such
a reader goes on reading the replaced node, which does nothing any more but return its replacement;
then all its arguments are put right in one go.
"""

from __future__ import annotations

from torch import fx

WIDE = 64
"""How many values in a list make a reader one that is told later."""


class Replacements:
    """The replacements made in one graph."""

    def __init__(self) -> None:
        self._made: dict[fx.Node, fx.Node] = {}
        self._waiting: dict[fx.Node, None] = {}

    def make(self, node: fx.Node, value: fx.Node) -> None:
        """Let all that read ``node`` read ``value``, the wide ones when the pass is over."""
        self.note(node, value)
        wide = {user for user in node.users if _is_wide(user)}
        node.replace_all_uses_with(value, delete_user_cb=lambda user: user not in wide)
        if wide:
            node.op, node.target = "call_method", "detach"
            node.args, node.kwargs = (value,), {}
            self._waiting[node] = None

    def note(self, node: fx.Node, value: fx.Node) -> None:
        """Take it that those who read ``node`` read ``value`` now."""
        self._made[node] = value

    def of(self, node: fx.Node) -> fx.Node:
        """Return what is read in the place of a value now; the value itself if that is read."""
        while node in self._made:
            node = self._made[node]
        return node

    def forget(self) -> None:
        """Forget what was replaced so far, since nobody will ask for it."""
        self._made.clear()

    def is_waiting(self, node: fx.Node) -> bool:
        """Whether a node is only there until its readers are told."""
        return node in self._waiting

    def settle(self) -> None:
        """Tell the readers that wait, and remove what they read."""
        for reader in dict.fromkeys(user for node in self._waiting for user in node.users):
            if reader not in self._waiting:
                reader.args = fx.node.map_arg(reader.args, self._behind)
                reader.kwargs = fx.node.map_arg(reader.kwargs, self._behind)
        for node in reversed(self._waiting):
            node.graph.erase_node(node)
        self._waiting.clear()

    def _behind(self, node: fx.Node) -> fx.Node:
        while node in self._waiting:
            (node,) = node.all_input_nodes  # which a later replacement may have changed
        return node


def _is_wide(reader: fx.Node) -> bool:
    lists = (*reader.args, *reader.kwargs.values())
    return any(isinstance(given, list | tuple) and len(given) > WIDE for given in lists)
