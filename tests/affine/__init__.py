"""Tests of affine."""
