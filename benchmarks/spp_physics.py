"""Do the statistical proxy potentials know crystals, and do they rank like CHGNet?

    python benchmarks/spp_physics.py DATA [--part test] [--per-class 250] [--random 30] [--library FILE]

1. Known crystals stay put: crystals of compositions that the derivation has not seen (at most 24 atoms, one per
   composition) are displaced by 0.1 A (standard deviation of each coordinate) and strained by 3 %, relaxed, and
   compared with the original: share of StructureMatcher matches (default tolerances), median change of volume, median
   root mean square distance (over the mean distance of the atoms) of those that match. The share that matches before
   relaxation is printed, too: rattled crystals still match, so relaxation can only lose them.
2. Ranking: Spearman correlation with CHGNet's energy over random structures, as assembled.

The alternative for both, in the same run: Lennard-Jones with the sum of the atomic radii as the bond length.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
warnings.simplefilter("ignore")

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from scipy.stats import spearmanr

from fuse_flows.config import TierConfig, make_config
from fuse_flows.potentials.crystals import ANIONS, CrystalSet, read_crystals
from fuse_flows.potentials.library import load_library
from fuse_flows.potentials.tables import PairTables, taper
from fuse_flows.relax.pair_tier import PairRelaxer
from fuse_flows.structures.assembly import random_structure
from fuse_flows.structures.composition import FormulaUnit
from fuse_flows.structures.radii import element_radius

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "spp_physics.json"
CLASSES = ("oxide", "sulfide", "halide", "intermetallic")
NONMETALS = ANIONS | {"H", "B", "C", "Si", "P", "As", "Ge", "Sb", "He", "Ne", "Ar", "Kr", "Xe"}
# Atoms at most; the compounds of the FUSE2 paper whose cells are small.
COMPOUNDS = {
    "Ca3Ti2O7": 24,
    "CoAs2": 12,
    "Cu7S4": 11,
    "Li2Sn2S3Cl4": 22,
    "Li3Si3O5Cl5": 16,
    "Li4OBrCl": 14,
    "WCl2": 12,
    "YWB4": 12,
    "Mn": 10,
    "Pb5As3O12Cl": 21,
}


def class_of(symbols: list[str]) -> str | None:
    """Oxides, sulfides and halides have no other anions; intermetallics hold at least two metals and nothing else."""
    elements = set(symbols)
    anions = elements & ANIONS
    if len(elements) < 2:
        return None
    if anions in ({"O"}, {"S"}):
        return "oxide" if anions == {"O"} else "sulfide"
    if anions and anions <= {"F", "Cl", "Br", "I"}:
        return "halide"
    return None if elements & NONMETALS else "intermetallic"


def chosen(crystals: CrystalSet, per_class: int) -> list[tuple[str, Structure]]:
    """Draw crystals, one per composition."""
    taken, seen = defaultdict(list), set()
    for i in np.random.default_rng(5).permutation(len(crystals)):
        symbols, formula = crystals.symbols(i), crystals.formulas[i]
        kind = class_of(symbols)
        if kind and formula not in seen and len(taken[kind]) < per_class:
            seen.add(formula)
            frac = crystals.frac[crystals.offsets[i] : crystals.offsets[i + 1]]
            taken[kind].append((kind, Structure(Lattice(crystals.cells[i]), symbols, frac)))
    return [pair for kind in CLASSES for pair in taken[kind]]


def disturbed(structure: Structure, rng: np.random.Generator) -> Structure:
    """Displace by 0.1 A and strain by 3 %."""
    strain = rng.normal(size=(3, 3)) * 0.03
    cell = structure.lattice.matrix @ (np.eye(3) + (strain + strain.T) / 2)
    positions = structure.frac_coords @ cell + rng.normal(size=(len(structure), 3)) * 0.1
    return Structure(Lattice(cell), structure.species, positions, coords_are_cartesian=True)


def lennard_jones(symbols: tuple[str, ...]) -> PairTables:
    """Wells of 0.2 eV at the sums of the atomic radii."""
    r = np.linspace(0.5, 11, 211)
    values = {}
    for k, one in enumerate(symbols):
        for two in symbols[k:]:
            x = (element_radius(one) + element_radius(two)) / r
            values[one, two] = taper(r, 0.2 * (x**12 - 2 * x**6))
    return PairTables(symbols, r, values)


def stay_put(relaxer: PairRelaxer, crystals: list[tuple[str, Structure]], threads: int) -> dict[str, Any]:
    """Relax disturbed crystals and compare."""
    rng = np.random.default_rng(3)
    begun = [disturbed(structure, rng) for _, structure in crystals]
    clock = time.process_time()
    ends = relaxer.relax_batch(begun, threads=threads)
    seconds = time.process_time() - clock
    matcher = StructureMatcher()
    rows = defaultdict(list)
    for (kind, original), start, end in zip(crystals, begun, ends, strict=True):
        final = end.structure
        found = None if final is None or final.volume > 5 * original.volume else matcher.get_rms_dist(final, original)
        change = np.nan if final is None else final.volume / original.volume - 1
        row = (found is not None, matcher.fit(start, original), change, np.nan if found is None else found[0])
        rows[kind].append(row)
        rows["all"].append(row)
    result: dict[str, Any] = {"cpu_seconds": round(seconds, 1)}
    for kind, entries in rows.items():
        matched, before, change, rms = map(np.array, zip(*entries, strict=True))
        result[kind] = {
            "crystals": len(entries),
            "match": round(float(matched.mean()), 3),
            "match_before": round(float(before.mean()), 3),
            "volume_change_percent": round(100 * float(np.nanmedian(change)), 2),
            "volume_change_size_percent": round(100 * float(np.nanmedian(np.abs(change))), 2),
            "rms": round(float(np.nanmedian(rms)), 3),
        }
    return result


def random_structures(number: int) -> dict[str, list[Structure]]:
    """Assemble random structures of the paper's compounds."""
    structures = {}
    for formula, atoms in COMPOUNDS.items():
        config = make_config({"formula": formula, "max_atoms": atoms})
        unit = FormulaUnit.from_config(config)
        rng = np.random.default_rng(11)
        limit = atoms // unit.n_atoms
        structures[formula] = [
            random_structure(unit, max_formula_units=limit, config=config, rng=rng).to_structure()
            for _ in range(number)
        ]
    return structures


def single_energies(
    sources: dict[str, Callable[[tuple[str, ...]], PairTables]], structures: dict[str, list[Structure]]
) -> dict[str, dict[str, float]]:
    """Spearman correlation with CHGNet per composition and source of potentials."""
    from fuse_flows.potentials.evaluator import evaluate
    from fuse_flows.relax.chgnet import ChgnetCalculator

    calculator = ChgnetCalculator()
    result: dict[str, dict[str, float]] = defaultdict(dict)
    for formula, entries in structures.items():
        reference = []
        for structure in entries:
            try:
                reference.append(calculator.get_potential_energy(structure.to_ase_atoms()) / len(structure))
            except (ValueError, RuntimeError):  # an atom without neighbours
                reference.append(np.nan)
        usable = np.isfinite(reference)
        for name, source in sources.items():
            tables = source(tuple(sorted({str(el) for el in entries[0].composition.elements})))
            energies = [
                evaluate(tables, [s.specie.symbol for s in e], e.lattice.matrix, e.cart_coords).energy / len(e)
                for e in entries
            ]
            rho = spearmanr(np.array(energies)[usable], np.array(reference)[usable])[0]
            result[name][formula] = round(float(rho), 3)
    for rhos in result.values():
        rhos["median"] = round(float(np.median(list(rhos.values()))), 3)
    return dict(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--part", default="test", choices=("tune", "test"))
    parser.add_argument("--per-class", type=int, default=250)
    parser.add_argument("--random", type=int, default=30)
    parser.add_argument("--library", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    library = load_library(options.library)

    def proxy(symbols: tuple[str, ...]) -> PairTables:
        return PairTables(symbols, *library.tables(symbols))

    sources = {"spp": proxy, "lennard_jones": lennard_jones}
    crystals = chosen(read_crystals(options.data, parts=(options.part,), max_atoms=24), options.per_class)
    report: dict[str, Any] = {"part": options.part, "library": library.provenance}
    for name, source in sources.items():
        relaxer = PairRelaxer(TierConfig(max_steps=500), source, gnorm=0.02)
        report[name] = stay_put(relaxer, crystals, options.threads)
        for kind in (*CLASSES, "all"):
            print(f"{name:14s} {kind:14s}", *(f"{key} {value}" for key, value in report[name][kind].items()))
    ratio = report["spp"]["all"]["match"] / max(report["lennard_jones"]["all"]["match"], 1e-3)
    print(f"known crystals stay put: {ratio:.2f} times the share of Lennard-Jones")
    if options.random:
        report["spearman"] = single_energies(sources, random_structures(options.random))
        for name, rhos in report["spearman"].items():
            print(f"{name:14s} Spearman with CHGNet:", *(f"{key} {value:+.2f}" for key, value in rhos.items()))
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
