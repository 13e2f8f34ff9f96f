"""Tests of the moves of an affine through a graph."""
