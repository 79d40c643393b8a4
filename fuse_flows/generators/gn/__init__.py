"""The graph network: formation energies of unrelaxed crystals, many at once, and its training."""
