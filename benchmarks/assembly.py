"""Speed of the random assembler and of the periodic contact check; run: python benchmarks/assembly.py [SECONDS]."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from fuse_flows.config import make_config
from fuse_flows.errors import GenerationError
from fuse_flows.structures.assembly import random_structure
from fuse_flows.structures.composition import FormulaUnit
from fuse_flows.structures.neighbours import neighbour_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_flows.structures.blocks import BlockStructure

LIMITS = {"Ca3Ti2O7": 50, "SrTiO3": 10, "MgO": 8, "Mn": 50, "WCl2": 50}
CUTOFF = 1.0
"""Angstrom, the default of checks.min_distance."""


def assemble(formula: str, max_atoms: int, seconds: float) -> list[BlockStructure]:
    """Assemble structures for some seconds and print how many there were."""
    config = make_config({"formula": formula, "max_atoms": max_atoms})
    unit = FormulaUnit.from_config(config)
    rng = np.random.default_rng(0)
    structures: list[BlockStructure] = []
    times = []
    failures = 0
    begin = perf_counter()
    while perf_counter() - begin < seconds:
        start = perf_counter()
        try:
            structures.append(
                random_structure(unit, max_formula_units=max_atoms // unit.n_atoms, config=config, rng=rng)
            )
        except GenerationError:
            failures += 1
        times.append(perf_counter() - start)
    milliseconds = 1000 * np.percentile(times, [50, 95])
    print(
        f"{formula:10s} <= {max_atoms:2d} atoms  {len(structures) / sum(times):7.0f} accepted/s"
        f"  median {milliseconds[0]:6.2f} ms  95 % {milliseconds[1]:6.2f} ms  given up {failures}"
    )
    return structures


def ours(structure: BlockStructure) -> bool:
    """Contacts by the package's periodic neighbour list."""
    return bool(neighbour_pairs(structure.lattice, structure.frac_coords, CUTOFF)[2].size)


def by_ase(structure: BlockStructure) -> bool:
    """Contacts by ASE's periodic neighbour list."""
    atoms = Atoms(structure.numbers, cell=structure.lattice, scaled_positions=structure.frac_coords, pbc=True)
    return bool(neighbor_list("d", atoms, CUTOFF).size)


def by_supercell(structure: BlockStructure) -> bool:
    """Contacts by pymatgen's matrix of minimum-image distances in the 2 x 2 x 2 supercell."""
    distances = (structure.to_structure() * (2, 2, 2)).distance_matrix
    return bool((distances + 10 * np.eye(len(distances)) < CUTOFF).any())


def measure(check: Callable[[BlockStructure], bool], structures: list[BlockStructure]) -> tuple[float, list[bool]]:
    """Return the seconds per structure (best of three passes) and the verdicts."""
    passes = []
    for _ in range(3):
        start = perf_counter()
        verdicts = [check(structure) for structure in structures]
        passes.append((perf_counter() - start) / len(structures))
    return min(passes), verdicts


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    print("Random assembly")
    structures = []
    for formula, max_atoms in LIMITS.items():
        structures += assemble(formula, max_atoms, seconds)[:20]
    rng = np.random.default_rng(1)
    structures = [s.with_atoms(s.numbers, rng.random((len(s), 3))) if i % 2 else s for i, s in enumerate(structures)]
    print(f"\nContacts below {CUTOFF} A in {len(structures)} of these structures, half of them with random positions")
    reference, verdicts = measure(ours, structures)
    print(f"{'fuse_flows':34s} {1e6 * reference:9.0f} us/structure  {sum(verdicts)} with short contacts")
    for name, check in (("ASE neighbor_list", by_ase), ("pymatgen distance_matrix, 2x2x2", by_supercell)):
        time, others = measure(check, structures)
        agreement = "same verdicts" if others == verdicts else "verdicts differ"
        print(f"{name:34s} {1e6 * time:9.0f} us/structure  {time / reference:6.1f} times ours  {agreement}")


if __name__ == "__main__":
    main()
