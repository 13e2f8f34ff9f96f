"""Tests of reading files of other formats."""
