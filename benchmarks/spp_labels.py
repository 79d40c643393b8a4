"""Label random cells of known compositions with CHGNet, for ``fuse-flows spp derive --labels``.

    python benchmarks/spp_labels.py DATA -o labels.npz [--cells 1200] [--seconds 7200] [--seed 0]

Compositions are drawn from the train part of the crystals (never tune, test, or a compound of the FUSE2 paper), half of
them as they come, half so that rare pairs of elements are seen. For each, a random cell is assembled as the first
population of a search is, and CHGNet follows it downhill for some calls. Energy, forces and virial are kept at a few
points of the way and of a displaced copy of its end. The file grows as the script runs; a run that stops early can be
used. The file here, ``spp_labels.npz``, was made with the defaults.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.relax.threads import limit_threads

limit_threads(1)  # before numpy and torch load

import numpy as np
from pymatgen.core import Composition, Lattice, Structure

from fuse_flows.config import SearchConfig, TierConfig
from fuse_flows.errors import FuseFlowsError
from fuse_flows.potentials.crystals import formula_key, read_crystals
from fuse_flows.potentials.labels import LabelledCells
from fuse_flows.relax.ase_tier import AseRelaxer
from fuse_flows.relax.chgnet import ChgnetCalculator
from fuse_flows.search.propose import propose_initial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuse_flows.potentials.crystals import CrystalSet

PAPER = (
    "Ca3Ti2O7", "CoAs2", "Cu7S4", "Mn", "Pb5As3O12Cl", "Si6Al6B3Fe3NaO30F", "WCl2", "YWB4", "Li2Sn2S3Cl4",
    "Li3Si3O5Cl5", "Li4OBrCl",
)  # fmt: skip
KEPT = (0, 3, 7, 13, 22)
"""Calls whose numbers are kept, beside the last one."""
CALLS = 30
RATTLE = (0.08, 0.25)
"""Standard deviation of the displacements of the copy of the end, A."""
STRAIN = 0.04
MAX_ATOMS = 12
ABOUT = (
    "energies, forces and virials of CHGNet 0.3.0 (B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023), BSD-3, "
    "trained on data of the Materials Project, CC-BY-4.0) for random "
    "cells of known compositions, made by benchmarks/spp_labels.py"
)
LARGEST_FORCE = 25.0
"""eV/A; beyond this nobody needs to be right."""


class Recording(ChgnetCalculator):
    """CHGNet that keeps what it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[np.ndarray, np.ndarray, float, np.ndarray, np.ndarray]] = []

    def calculate(self, *args: Any, **keywords: Any) -> None:
        """Compute and keep."""
        super().calculate(*args, **keywords)
        cell, r = self.atoms.cell.array.copy(), self.results
        v = r["stress"] * abs(np.linalg.det(cell))
        virial = np.array([[v[0], v[5], v[4]], [v[5], v[1], v[3]], [v[4], v[3], v[2]]])
        frac = self.atoms.get_scaled_positions(wrap=False)
        self.seen.append((cell, frac, float(r["energy"]), r["forces"].copy(), virial))


def compositions(crystals: CrystalSet, rng: np.random.Generator) -> Iterator[str]:
    """Yield formulas of 2 to 5 elements without end, every other one for the sake of its rare pairs."""
    paper = {formula_key([s for s, n in Composition(f).as_dict().items() for _ in range(round(n))]) for f in PAPER}
    sizes = crystals.sizes
    unique = sorted({
        f for f, n in zip(crystals.formulas, sizes, strict=True) if n <= MAX_ATOMS and 2 <= len(f.split()) <= 5
    } - paper)  # fmt: skip
    seen: Counter[tuple[str, ...]] = Counter()
    turn = 0
    while unique:
        drawn = rng.choice(len(unique), size=min(len(unique), 40 if turn % 2 else 1), replace=False)
        pairs = {int(i): _pairs(unique[i]) for i in drawn}
        best = max(pairs, key=lambda i: (np.mean([1 / (1 + seen[p]) for p in pairs[i]]), -i))
        seen.update(pairs[best])
        turn += 1
        yield unique.pop(best).replace(" ", "")


def _pairs(formula: str) -> list[tuple[str, ...]]:
    elements = [part.rstrip("0123456789") for part in formula.split()]
    return list(combinations_with_replacement(elements, 2))


def follow(formula: str, seed: int, relaxer: AseRelaxer, rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """Return (symbols, cell, frac, energy, forces, virial) at some points of a way downhill."""
    unit = int(Composition(formula).num_atoms)
    config = SearchConfig(
        formula=formula, max_atoms=unit * max(1, int(rng.integers(4, MAX_ATOMS + 1)) // unit), seed=seed
    )
    start = propose_initial(config, 0).structure
    calculator = relaxer.calculator
    calculator.seen = []
    if start is None:
        return []
    end = relaxer.relax(start)
    kept = [calculator.seen[k] for k in KEPT if k < len(calculator.seen) - 1] + calculator.seen[-1:]
    calculator.seen = []
    if end.outcome.has_energy and kept:
        strain = rng.normal(size=(3, 3)) * STRAIN
        cell = end.structure.lattice.matrix @ (np.eye(3) + (strain + strain.T) / 2)
        cart = end.structure.frac_coords @ cell + rng.normal(size=(len(start), 3)) * rng.uniform(*RATTLE)
        copy = Structure(Lattice(cell), start.species, cart, coords_are_cartesian=True)
        calculator.reset()
        calculator.calculate(copy.to_ase_atoms())
        kept += calculator.seen
    symbols = [site.specie.symbol for site in start]
    return [(symbols, *item) for item in kept if np.abs(item[3]).max() < LARGEST_FORCE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("labels.npz"))
    parser.add_argument("--cells", type=int, default=1200)
    parser.add_argument("--seconds", type=float, default=7200.0, help="No cell begins later than this.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(options.seed)
    crystals = read_crystals(options.data, parts=("train",), max_atoms=MAX_ATOMS)
    relaxer = AseRelaxer(TierConfig(max_steps=CALLS, time_limit=600.0), Recording())
    rows: list[tuple[Any, ...]] = []
    begun, cpu = time.monotonic(), time.process_time()
    for way, formula in enumerate(compositions(crystals, rng)):
        if way >= options.cells or time.monotonic() - begun > options.seconds:
            break
        try:
            rows += [(way, *item) for item in follow(formula, options.seed, relaxer, rng)]
        except (FuseFlowsError, ValueError, RuntimeError) as error:
            print(f"{formula}: {error}")
        if way % 50 == 49:
            LabelledCells.of(rows, ABOUT).save(options.output)
            print(f"{way + 1} cells, {len(rows)} labels, {time.process_time() - cpu:.0f} CPU s", flush=True)
    LabelledCells.of(rows, ABOUT).save(options.output)
    print(f"{options.output}: {len(rows)} labels, {options.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
