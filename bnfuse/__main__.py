"""``python -m bnfuse`` is the command ``bnfuse``."""

from bnfuse.cli import main

main()
