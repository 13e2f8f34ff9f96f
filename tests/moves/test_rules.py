"""The table of rules."""

from __future__ import annotations

from bnfuse.moves.rules import RULES
from bnfuse.ops import OPERATIONS, Kind


def test_what_has_no_rule() -> None:
    """Identities and dropout that is off are taken out before; the rest lets nothing through."""
    assert set(Kind) - set(RULES) == {Kind.IDENTITY, Kind.DROPOUT, Kind.ACTIVATION}


def test_every_kind_has_an_operation() -> None:
    assert {row.kind for row in OPERATIONS} == set(Kind)


def test_layers_absorb_by_rules_of_their_own() -> None:
    absorbing = [kind for kind in Kind if kind.is_linear]
    assert len({RULES[kind].up for kind in absorbing}) == 1
    assert RULES[Kind.LINEAR].up is not RULES[Kind.BATCH_NORM].up
