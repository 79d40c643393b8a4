"""Pair potentials: tables, their evaluation, and the statistical proxy potentials shipped with the package."""
