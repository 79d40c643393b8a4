"""The free DFT tier: GPAW (plane waves) in a process of its own, relaxed in stages by our L-BFGS."""
