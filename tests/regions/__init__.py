"""Tests of the checks of rewrites."""
