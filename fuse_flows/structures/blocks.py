"""Structures as grids of sub-modules: slicing and assembly in fractional coordinates, exact to the last bit.

Coordinates are kept in multiples of 2^-40 of a lattice vector (below 1e-10 A for any cell in use). For a grid of
up to 2^12 blocks along an axis the product with the grid, its whole part and its remainder are then free of rounding,
so that slicing a structure and putting the blocks together again is the identity, not nearly the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.structures.radii import element_radius

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from pymatgen.core import Structure

Grid = tuple[int, int, int]

_RESOLUTION = 2.0**40
_MAX_GRID = 2**12


def wrap(frac_coords: ArrayLike) -> NDArray[np.float64]:
    """Move fractional coordinates into [0, 1), in multiples of 2^-40.

    Parameters
    ----------
    frac_coords
        Any shape, any finite values; -1e-17 and 1.0 both become 0.

    Returns
    -------
    numpy.ndarray
        A new array of the same shape.
    """
    coords = np.asarray(frac_coords, dtype=np.float64)
    ticks = np.round((coords - np.floor(coords)) * _RESOLUTION)
    ticks[ticks == _RESOLUTION] = 0.0
    return ticks / _RESOLUTION


@dataclass(frozen=True, eq=False)
class Block:
    """The content of one sub-module.

    Parameters
    ----------
    numbers
        Atomic numbers, shape (M,); M may be 0.
    frac_coords
        Coordinates in units of the block vectors, shape (M, 3); in [0, 1) as they come from
        :meth:`BlockStructure.blocks`.
    """

    numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.numbers)

    def shifted(self, shift: ArrayLike) -> Block:
        """Return the block with its atoms moved by ``shift`` (3,), in units of the block vectors; unwrapped."""
        return Block(self.numbers, self.frac_coords + np.asarray(shift, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class BlockStructure:
    """A crystal structure and the grid that cuts it into sub-modules; its arrays are read-only.

    Atoms are wrapped into the cell and sorted by sub-module (x runs fastest, then y, then z; atoms of one sub-module
    keep the order they came in), so equal structures have equal arrays. The cell of a sub-module is spanned by the
    lattice vectors divided by the grid.

    Parameters
    ----------
    lattice
        Lattice vectors as rows, shape (3, 3), angstrom.
    numbers
        Atomic numbers, shape (N,), N > 0.
    frac_coords
        Fractional coordinates, shape (N, 3).
    grid
        Number of sub-modules along each lattice vector.

    Raises
    ------
    ValueError
        If the shapes do not fit, a value is not finite or the grid is not positive.
    """

    lattice: NDArray[np.float64]
    numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    grid: Grid

    def __post_init__(self) -> None:
        lattice = np.array(self.lattice, dtype=np.float64)
        numbers = np.array(self.numbers, dtype=np.int64)
        coords = np.asarray(self.frac_coords, dtype=np.float64)
        grid = tuple(int(n) for n in self.grid)
        if lattice.shape != (3, 3) or not len(numbers) or coords.shape != (len(numbers), 3) or len(grid) != 3:
            raise ValueError("lattice (3, 3), numbers (N,) and frac_coords (N, 3) of at least one atom are needed")
        if not (np.isfinite(lattice).all() and np.isfinite(coords).all()):
            raise ValueError("lattice and coordinates must be finite")
        if not all(0 < n <= _MAX_GRID for n in grid):
            raise ValueError(f"grid {grid} must have between 1 and {_MAX_GRID} blocks along each axis")
        coords = wrap(coords)
        order = np.argsort(_block_index(coords, grid), kind="stable")
        for name, array in (("lattice", lattice), ("numbers", numbers[order]), ("frac_coords", coords[order])):
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "grid", grid)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def n_blocks(self) -> int:
        """Number of sub-modules."""
        return int(np.prod(self.grid))

    @property
    def volume(self) -> float:
        """Volume of the cell, A^3."""
        return float(abs(np.linalg.det(self.lattice)))

    @property
    def lengths(self) -> NDArray[np.float64]:
        """Lengths of the lattice vectors, shape (3,), angstrom."""
        return np.linalg.norm(self.lattice, axis=1)

    @property
    def angles(self) -> tuple[float, float, float]:
        """Angles alpha, beta, gamma of the cell, degrees."""
        a, b, c = self.lattice / self.lengths[:, None]
        return tuple(float(np.degrees(np.arccos(np.clip(u @ v, -1, 1)))) for u, v in ((b, c), (a, c), (a, b)))  # type: ignore[return-value]

    @property
    def block_vectors(self) -> NDArray[np.float64]:
        """Vectors that span one sub-module, as rows, shape (3, 3), angstrom."""
        return self.lattice / np.array(self.grid, dtype=float)[:, None]

    def block_index(self, frac_coords: ArrayLike) -> NDArray[np.int64]:
        """Return the number of the sub-module that an atom at each point, shape (N, 3), would be in, shape (N,)."""
        return _block_index(wrap(frac_coords), self.grid)

    def is_identical(self, other: BlockStructure) -> bool:
        """Tell whether two structures agree to the last bit, grid included."""
        return self.grid == other.grid and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("lattice", "numbers", "frac_coords")
        )

    def with_atoms(self, numbers: ArrayLike, frac_coords: ArrayLike) -> BlockStructure:
        """Return a structure of the same cell and grid with other atoms."""
        return BlockStructure(self.lattice, np.asarray(numbers), np.asarray(frac_coords), self.grid)

    def scaled(self, factor: float) -> BlockStructure:
        """Return the structure with all lengths multiplied by ``factor``."""
        return BlockStructure(self.lattice * factor, self.numbers, self.frac_coords, self.grid)

    @classmethod
    def from_structure(
        cls, structure: Structure, grid: Grid | None = None, edge: float | None = None
    ) -> BlockStructure:
        """Cut a structure into sub-modules.

        Parameters
        ----------
        structure
            Ordered structure.
        grid
            Number of sub-modules along each lattice vector; None: the whole numbers next to a/I_p, b/I_p and 2c/I_p,
            at least 1 (FUSE2 paper, Section 2.2).
        edge
            I_p in angstrom; None: four times the mean neutral radius of the atoms.

        Raises
        ------
        ValueError
            If the structure is disordered or empty.
        """
        if not structure.is_ordered or not len(structure):
            raise ValueError("only ordered structures of at least one atom can be cut into sub-modules")
        if grid is None:
            if edge is None:
                edge = 4 * float(np.mean([element_radius(site.specie.symbol) for site in structure]))
            grid = grid_for(structure.lattice.matrix, edge)
        numbers = np.array([site.specie.Z for site in structure])
        return cls(structure.lattice.matrix, numbers, structure.frac_coords, grid)

    def to_structure(self) -> Structure:
        """Return the structure for the world outside this room; atoms in the order of the sub-modules."""
        from pymatgen.core import Element, Lattice, Structure

        species = [Element.from_Z(int(z)) for z in self.numbers]
        return Structure(Lattice(self.lattice), species, self.frac_coords)

    def blocks(self) -> tuple[Block, ...]:
        """Cut the structure into its sub-modules.

        Returns
        -------
        tuple of Block
            All ``n_blocks`` of them, empty ones included; x runs fastest, then y, then z. Together they hold every
            atom exactly once.
        """
        index = _block_index(self.frac_coords, self.grid)
        local = self.frac_coords * np.array(self.grid)
        local = local - np.floor(local)
        edges = np.searchsorted(index, np.arange(self.n_blocks + 1))
        return tuple(Block(self.numbers[start:stop], local[start:stop]) for start, stop in pairwise(edges))

    @classmethod
    def from_blocks(cls, lattice: ArrayLike, grid: Grid, blocks: Sequence[Block]) -> BlockStructure:
        """Put sub-modules together; the exact inverse of :meth:`blocks`.

        Parameters
        ----------
        lattice
            Lattice vectors as rows, shape (3, 3), angstrom.
        grid
            Number of sub-modules along each lattice vector.
        blocks
            One block for each place of the grid, in the order of :meth:`blocks`. Atoms that stick out of their block
            come to lie in a neighbouring one.

        Raises
        ------
        ValueError
            If the number of blocks does not fit the grid, or all are empty.
        """
        if len(blocks) != int(np.prod(grid)):
            raise ValueError(f"{len(blocks)} blocks do not fill a grid of {grid}")
        origins = np.repeat(block_origins(grid), [len(block) for block in blocks], axis=0)
        local = np.concatenate([block.frac_coords for block in blocks])
        numbers = np.concatenate([block.numbers for block in blocks])
        return cls(np.asarray(lattice), numbers, (origins + local) / np.array(grid), grid)


def block_origins(grid: Grid) -> NDArray[np.int64]:
    """Return the whole-number positions of the blocks of a grid, shape (n_blocks, 3); x runs fastest."""
    nx, ny, nz = grid
    z, y, x = np.meshgrid(np.arange(nz), np.arange(ny), np.arange(nx), indexing="ij")
    return np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)


def grid_for(lattice: ArrayLike, edge: float) -> Grid:
    """Return the grid of a cell, shape (3, 3), for sub-modules of edge I_p in angstrom; each count is at least 1."""
    lengths = np.linalg.norm(np.asarray(lattice, dtype=np.float64), axis=1)
    nx, ny, nz = (max(1, round(float(n))) for n in lengths / np.array([edge, edge, edge / 2]))
    return nx, ny, nz


def _block_index(frac_coords: NDArray[np.float64], grid: Grid | tuple[int, ...]) -> NDArray[np.int64]:
    """Return the number of the block that each atom lies in, shape (N,)."""
    cells = np.floor(frac_coords * np.array(grid)).astype(np.int64)
    index: NDArray[np.int64] = cells[:, 0] + grid[0] * (cells[:, 1] + grid[1] * cells[:, 2])
    return index
