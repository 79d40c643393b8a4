"""Pure geometry: composition, radii, block grids, lattice shapes, random assembly, checks and comparison."""
