"""Tests of bnfuse.kernels."""
