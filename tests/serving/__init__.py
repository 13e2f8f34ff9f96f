"""Exported models, served by what serves them: slow, each in an environment of its own."""
