"""The conformance suite: patterns that batch-norm folding has got wrong somewhere before."""
