"""Seconds per relaxation of our CHGNet tier against the optimiser of the chgnet package, on the same cells.

Both start from the same cells (strained and rattled crystals, and random ones), on one thread, with the same largest
force. Ours also converges the stress; from a random cell the two may end in different minima.

Run: python benchmarks/relax_tiers.py
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
import warnings

from fuse_flows.relax.threads import limit_threads

limit_threads(1)  # before numpy and torch load

import numpy as np
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.relax.tiers import build_relaxer


def cells() -> dict[str, Structure]:
    """Ideal cells by name."""
    rocksalt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.25), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    coords = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    perovskite = Structure(Lattice.cubic(3.95), ["Sr", "Ti", "O", "O", "O"], coords)
    return {
        "MgO 2": rocksalt.get_primitive_structure(),
        "MgO 8": rocksalt,
        "SrTiO3 5": perovskite,
        "SrTiO3 10": perovskite * (2, 1, 1),
        "SrTiO3 20": perovskite * (2, 2, 1),
    }


def random_cell(species: list[str], volume: float, seed: int) -> Structure:
    """Random cubic cell of a volume per atom (A^3) with no contact below 1.2 A, as a search would make it."""
    rng = np.random.default_rng(seed)
    while True:
        edge = (volume * len(species)) ** (1 / 3)
        structure = Structure(Lattice.cubic(edge), species, rng.random((len(species), 3)))
        if structure.is_valid(tol=1.2):
            return structure


def starts(rattle: float, expand: float) -> dict[str, Structure]:
    """Strained and rattled crystals, and random cells, by name."""
    structures = {}
    for name, ideal in cells().items():
        structures[name] = ideal.copy()
        structures[name].scale_lattice(ideal.volume * (1 + expand))
        structures[name].perturb(rattle, seed=3)
    for seed in range(3):
        structures[f"random MgO {seed}"] = random_cell(["Mg"] * 3 + ["O"] * 3, 14.0, seed)
        structures[f"random SrTiO3 {seed}"] = random_cell(["Sr", "Ti", "O", "O", "O"], 14.0, seed)
    return structures


def stock(structure: Structure, fmax: float, steps: int) -> tuple[float, float]:
    """Relax with the chgnet package's own optimiser; seconds and energy in eV/atom."""
    from chgnet.model import StructOptimizer

    with contextlib.redirect_stdout(io.StringIO()):
        optimizer = StructOptimizer(use_device="cpu")
        start = time.perf_counter()
        result = optimizer.relax(structure, fmax=fmax, steps=steps, verbose=False, assign_magmoms=False)
        seconds = time.perf_counter() - start
    return seconds, float(result["trajectory"].energies[-1]) / len(structure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizer", default=TierConfig().optimizer, help="optimiser of our tier")
    parser.add_argument("--rattle", type=float, default=0.15, help="displacement of every atom, A")
    parser.add_argument("--expand", type=float, default=0.12, help="expansion of the volume")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    tier = TierConfig(optimizer=args.optimizer)
    relaxer = build_relaxer(tier)
    relaxer.relax(cells()["MgO 2"])
    stock(cells()["MgO 2"], tier.fmax, 1)
    print(f"chgnet {relaxer.version}, ours {tier.optimizer}, fmax {tier.fmax} eV/A")
    print("cell              ours s  steps   eV/atom outcome         stock s   eV/atom  ratio")
    ratios = []
    for name, start in starts(args.rattle, args.expand).items():
        ours = relaxer.relax(start)
        seconds, energy = stock(start, tier.fmax, tier.max_steps)
        ratios.append(seconds / ours.seconds)
        own = float("nan") if ours.energy_per_atom is None else ours.energy_per_atom
        print(
            f"{name:<15} {ours.seconds:8.2f} {ours.steps:6d} {own:9.4f} {ours.outcome:<14} "
            f"{seconds:8.2f} {energy:9.4f} {ratios[-1]:6.2f}"
        )
    print(f"geometric mean of stock / ours: {statistics.geometric_mean(ratios):.2f}")


if __name__ == "__main__":
    main()
