"""Random structures from sub-modules on a square or triangular net of sites, layer upon layer (FUSE2 paper, 2.1).

A sub-module has four sites in one plane at half its height; each holds an atom or is vacant. The occupation is
random, apart from the order of cations and anions when oxidation states are known.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.errors import GenerationError
from fuse_flows.structures.blocks import BlockStructure, Grid, block_origins
from fuse_flows.structures.checks import check_structure, density_ratio
from fuse_flows.structures.lattices import (
    LatticeSystem,
    angle_factor,
    block_counts,
    cell_vectors,
    draw_angles,
    grids,
)
from fuse_flows.structures.motifs import SITES, SITES_PER_BLOCK
from fuse_flows.structures.radii import module_edge
from fuse_flows.structures.volumes import OUT_OF_WINDOW, scaled_towards

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.config import SearchConfig
    from fuse_flows.structures.composition import FormulaUnit
    from fuse_flows.structures.volumes import VolumeWindow

_SQUARE_OFFSETS = np.array([[0.0, 0.0], [0.5, 0.5]])
_TRIANGULAR_OFFSETS = np.array([[0.0, 0.0], [1 / 3, 2 / 3], [2 / 3, 1 / 3]])
_SIZES_TRIED = 10
"""The number of formula units is drawn again each time this part of the attempts has failed."""


def random_structure(
    formula_unit: FormulaUnit,
    *,
    max_formula_units: int,
    config: SearchConfig,
    rng: np.random.Generator,
    window: VolumeWindow | None = None,
) -> BlockStructure:
    """Assemble a random structure.

    The number of formula units is uniform in 1 ... ``max_formula_units``; the lattice system, the number of
    sub-modules (among those that can hold the atoms within the vacancy ratio), the shape and the angles follow, each
    uniform. A size that fails for a tenth of the attempts is drawn again, so that sizes which cannot be built, such as
    one atom of a metal, do not stop a search.

    Parameters
    ----------
    formula_unit
        What the structure is made of.
    max_formula_units
        Largest number of formula units.
    config
        Limits of generator and checks.
    rng
        Source of all randomness.
    window
        Volumes per atom that are allowed. A draw out of it, or with ``config.volume.scale`` every draw, is scaled to
        the target before it is checked. None: all volumes, and nothing is scaled.

    Returns
    -------
    BlockStructure
        A structure that passes :func:`fuse_flows.structures.checks.check_structure`, coordination included.

    Raises
    ------
    GenerationError
        If ``config.generator.attempts`` draws gave nothing; the message names the most frequent reason.
    ConfigError
        If a radius is missing.
    """
    if max_formula_units < 1:
        raise GenerationError(f"no whole formula unit of {formula_unit.formula} is allowed")
    edge = module_edge(formula_unit, config.generator)
    reasons: Counter[str] = Counter()
    patience = max(1, config.generator.attempts // _SIZES_TRIED)
    units = 1
    for attempt in range(config.generator.attempts):
        if attempt % patience == 0:
            units = int(rng.integers(1, max_formula_units + 1))
        drawn = _draw(formula_unit, units, edge, config, rng, window=window)
        if isinstance(drawn, BlockStructure):
            return drawn
        reasons[drawn] += 1
    reason, count = reasons.most_common(1)[0]
    raise GenerationError(
        f"no acceptable random structure of {formula_unit.formula} in {config.generator.attempts} draws; "
        f"most frequent reason: {reason} ({count})"
    )


def _draw(
    formula_unit: FormulaUnit,
    units: int,
    edge: float,
    config: SearchConfig,
    rng: np.random.Generator,
    *,
    window: VolumeWindow | None,
) -> BlockStructure | str:
    """Make one draw: a structure, or why there is none."""
    n_atoms = units * formula_unit.n_atoms
    generator, checks = config.generator, config.checks
    system = tuple(LatticeSystem)[int(rng.integers(len(LatticeSystem)))]
    most = int(n_atoms * (1 + generator.vacancy_ratio) / SITES_PER_BLOCK)
    sizes = block_counts(system, -(-n_atoms // SITES_PER_BLOCK), most, generator.max_axis, generator.max_aspect)
    if not sizes:
        return "no cell of the lattice system has a fitting size"
    n_blocks = sizes[int(rng.integers(len(sizes)))]
    shapes = grids(system, n_blocks, generator.max_axis, generator.max_aspect)
    grid = shapes[int(rng.integers(len(shapes)))]
    angles = draw_angles(system, rng)
    density = density_ratio(n_blocks * edge**3 / 2 * angle_factor(angles), units, formula_unit)
    if not checks.min_density <= density <= checks.max_density:
        return "density out of bounds"
    numbers = occupation(formula_unit, units, n_blocks, rng)
    coords = site_coordinates(grid, stacking(grid[2], triangular=angles[2] == 120.0, rng=rng))
    lengths = (grid[0] * edge, grid[1] * edge, grid[2] * edge / 2)
    filled = numbers > 0
    structure = BlockStructure(cell_vectors(lengths, angles), numbers[filled], coords[filled], grid)
    if window is not None and (config.volume.scale or not window.holds(structure)):
        structure = scaled_towards(structure, window.target, formula_unit, checks.min_distance)
    if window is not None and not window.holds(structure):
        return OUT_OF_WINDOW
    reason = check_structure(structure, formula_unit, checks, max_atoms=n_atoms, coordination=True)
    return structure if reason is None else reason


def occupation(formula_unit: FormulaUnit, units: int, n_blocks: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Distribute atoms and vacancies over the sites of all sub-modules.

    Neutral atoms go anywhere. With oxidation states the first site of each sub-module is for a cation and the other
    three for anions or vacancies; cations left over go to the other sites, first sites left over are filled with
    vacancies, then with anions.

    Parameters
    ----------
    formula_unit
        What is distributed.
    units
        Number of formula units.
    n_blocks
        Number of sub-modules; they must have enough sites.
    rng
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        Atomic numbers, 0 for a vacancy, shape (4 * n_blocks,); the four sites of a sub-module follow each other.
    """
    atoms = np.tile(formula_unit.numbers, units)
    vacant = np.zeros(SITES_PER_BLOCK * n_blocks - len(atoms), dtype=np.int64)
    if formula_unit.oxidation_states is None:
        return rng.permutation(np.concatenate([atoms, vacant]))
    positive = [formula_unit.oxidation_state(el) or 0.0 for el, n in formula_unit.counts for _ in range(n)]
    cation = np.tile(np.array(positive) > 0, units)
    # in the order of their claim to a first site; who comes too late takes one of the others
    queue = np.concatenate([rng.permutation(atoms[cation]), vacant, rng.permutation(atoms[~cation])])
    sites = np.empty((n_blocks, SITES_PER_BLOCK), dtype=np.int64)
    sites[:, 0] = rng.permutation(queue[:n_blocks])
    sites[:, 1:] = rng.permutation(queue[n_blocks:]).reshape(n_blocks, SITES_PER_BLOCK - 1)
    return sites.ravel()


def stacking(n_layers: int, *, triangular: bool, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the offsets of the layers of a cell.

    Square nets alternate between two positions. Triangular nets take one of three, never the same in neighbouring
    layers, the periodic image included, which makes close packings.

    Parameters
    ----------
    n_layers
        Number of layers.
    triangular
        Whether gamma is 120 degrees.
    rng
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        Offsets along a and b, in units of the block vectors, shape (n_layers, 2).
    """
    if not triangular:
        return _SQUARE_OFFSETS[np.arange(n_layers) % 2]
    sequence = [0]
    for layer in range(1, n_layers):
        barred = {sequence[-1], sequence[0]} if layer == n_layers - 1 else {sequence[-1]}
        choices = [kind for kind in range(3) if kind not in barred]
        sequence.append(choices[int(rng.integers(len(choices)))])
    return _TRIANGULAR_OFFSETS[sequence]


def site_coordinates(grid: Grid, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the fractional coordinates of all sites of a cell.

    Parameters
    ----------
    grid
        Number of sub-modules along each lattice vector.
    offsets
        Offsets of the layers, shape (nz, 2), in units of the block vectors.

    Returns
    -------
    numpy.ndarray
        Shape (4 * n_blocks, 3), unwrapped; the four sites of a sub-module follow each other, sub-modules in the order
        of :func:`fuse_flows.structures.blocks.block_origins`.
    """
    origins = block_origins(grid).astype(np.float64)
    origins[:, :2] += np.repeat(offsets, grid[0] * grid[1], axis=0)
    coords = origins[:, None, :] + SITES[None, :, :]
    return coords.reshape(-1, 3) / np.array(grid)
