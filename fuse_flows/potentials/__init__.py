"""Pair potentials: tables, the compiled sum over all images within the cut-off, and an ASE calculator."""
