"""Latency, side by side."""

from bnfuse.bench.benchmark import benchmark
from bnfuse.bench.result import Benchmark, Timing

__all__ = ["Benchmark", "Timing", "benchmark"]
