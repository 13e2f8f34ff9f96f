"""Whole random models: drawn, optimized, compared with themselves, shrunk."""
