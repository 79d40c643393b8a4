# ruff: noqa: T201 - it is a program, and its output is what is tested
"""Stand-in for GULP in tests: reads what our tier writes, relaxes with a pair potential, prints what GULP would.

It knows the input that ``fuse_flows.relax.gulp_files`` writes and no more. The variable GULP_STANDIN makes it fail:
``crash``, ``error``, ``stars``, ``no_lower_point``, ``cpu``, ``no_restart``, ``collapse``, ``stranger``;
``KIND@N`` does so in the N-th run (counted in the file GULP_STANDIN_RUNS, which also records each input).
"""

import json
import os
import sys
from itertools import product
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize

RULE = "-" * 80
STARS = "*" * 80


class Crystal:
    """Energy of a cell and its gradient by fractional coordinates and strain, summed over all images."""

    def __init__(self, symbols, cell, frac, splines, r_max):
        self.symbols, self.cell, self.frac, self.r_max = symbols, cell, frac, r_max
        kinds = sorted(splines)
        self.splines = [splines[kind] for kind in kinds]
        self.kind = np.array([[kinds.index(tuple(sorted((a, b)))) for b in symbols] for a in symbols])
        self.pressure = 0.0
        self.shift = float(os.environ.get("GULP_STANDIN_SHIFT", "0"))

    def compute(self, frac, cell):
        heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        reach = np.ceil(self.r_max / heights).astype(int) + 1
        images = np.array(list(product(*(range(-n, n + 1) for n in reach))))
        apart = frac[None, :] - frac[:, None]
        vectors = ((apart - np.round(apart))[:, :, None] + images) @ cell
        d = np.linalg.norm(vectors, axis=-1)
        i, j, n = np.nonzero((d > 1e-6) & (d < self.r_max))
        vectors, d, kind = vectors[i, j, n], d[i, j, n], self.kind[i, j]
        energy, slope = np.zeros(len(d)), np.zeros(len(d))
        for number, spline in enumerate(self.splines):
            mask = kind == number
            energy[mask], slope[mask] = spline(d[mask]), spline(d[mask], 1)
        pull = slope[:, None] * vectors / d[:, None]
        gradient = np.zeros_like(frac)
        np.add.at(gradient, i, -pull)
        strain = 0.5 * np.einsum("ia,ib->ab", vectors, pull)
        return 0.5 * energy.sum() + self.shift * len(frac), gradient @ cell.T, strain

    def energy(self):
        """Return the enthalpy (eV) if there is a pressure (eV/A^3)."""
        return self.compute(self.frac, self.cell)[0] + self.pressure * abs(np.linalg.det(self.cell))

    def optimise(self, cycles, tolerance, *, relax_cell):
        """Return the cycles that were needed and whether they sufficed."""
        n = self.frac.size
        start, cell = self.frac.copy(), self.cell.copy()

        def unpack(x):
            strain = x[n:].reshape(3, 3)
            return start + x[:n].reshape(-1, 3), cell @ (np.eye(3) + (strain + strain.T) / 2)

        def function(x):
            frac, strained = unpack(x)
            energy, gradient, strain = self.compute(frac, strained)
            work = self.pressure * abs(np.linalg.det(strained))
            energy, strain = energy + work, strain + work * np.eye(3)
            strain = np.linalg.inv(np.linalg.inv(cell) @ strained) @ strain
            return energy, np.concatenate([gradient.ravel(), relax_cell * ((strain + strain.T) / 2).ravel()])

        options = {"maxiter": cycles, "gtol": tolerance, "ftol": 0}
        result = minimize(function, np.zeros(n + 9), jac=True, method="L-BFGS-B", options=options)
        self.frac, self.cell = unpack(result.x)
        return result.nit, result.status == 0


def read_library(path):
    """Every table counts as often as it is written, as in GULP."""
    tables, header = [], None
    for line in Path(path).read_text().splitlines():
        words = line.split()
        if words[0] == "spline":
            assert words == ["spline", "cubic"]
        elif words[1] == "core":
            header = words
            tables.append((tuple(sorted((words[0], words[2]))), float(words[-1]), []))
        else:
            tables[-1][2].append((float(words[1]), float(words[0])))
    assert header is not None
    splines = {}
    for pair, _, rows in tables:
        assert pair not in splines, f"{pair} counts twice"
        splines[pair] = CubicSpline(*np.array(rows).T)
    return splines, max(r_max for _, r_max, _ in tables)


def read_input(lines):
    words = lines[0].split()
    options = {line.split()[0]: line.split()[1:] for line in lines if line.split()}
    start = lines.index("vectors")
    cell = np.array([line.split() for line in lines[start + 1 : start + 4]], float)
    atoms = [line.split() for line in lines[lines.index("fractional") + 1 :]]
    atoms = [line for line in atoms if len(line) == 5 and line[1] == "core"]
    frac = np.array([line[2:] for line in atoms], float)
    splines, r_max = read_library(options["include"][0])
    crystal = Crystal([a[0] for a in atoms], cell, frac, splines, r_max)
    if "pressure" in options:
        assert options["pressure"][1] == "GPa"
        crystal.pressure = float(options["pressure"][0]) / 160.2176634
    return words, options, crystal


def cell_parameters(cell):
    a, b, c = np.linalg.norm(cell, axis=1)
    cosines = cell[1] @ cell[2] / (b * c), cell[0] @ cell[2] / (a * c), cell[0] @ cell[1] / (a * b)
    return [a, b, c, *np.degrees(np.arccos(cosines))]


def write_restart(path, words, crystal, energy):
    text = f"# \n# Keywords:\n# \n{' '.join(words)}\n# \n# Options:\n# \ntitle\nfuse_flows\nend\n"
    numbers = "".join(f"{x:11.6f}" for x in cell_parameters(crystal.cell))
    text += f"cell\n{numbers}\nfractional  1   \n"
    for symbol, xyz in zip(crystal.symbols, crystal.frac % 1, strict=True):
        columns = " ".join("1/2" if abs(x - 0.5) < 1e-7 else f"{x:.7f}" for x in xyz)
        text += f"{symbol:<5} core {columns} 0.0000000 1.00000 0.00000             \n"
    text += f"totalenergy {energy:24.10f} eV\nspecies   1\nX      core    0.000000                  \n"
    Path(path).write_text(text)


def components(energy, work):
    name = "enthalpy  " if work else "energy    "
    share = f"  Pressure*volume            = {work:20.8f} eV    \n" if work else ""
    return (
        f"\n  Components of energy : \n\n{RULE}\n  Interatomic potentials     = {energy - work:20.8f} eV    \n"
        f"{share}{RULE}\n"
        f"  Total lattice {name}   = {energy:20.8f} eV    \n{RULE}\n"
        f"  Total lattice {name}   = {energy * 96.4853:20.4f} kJ/(mole unit cells)\n{RULE}\n"
    )


def fault():
    """Record the input; return it and the fault this run is to have."""
    text = sys.stdin.read()
    kind, _, number = os.environ.get("GULP_STANDIN", "").partition("@")
    record = os.environ.get("GULP_STANDIN_RUNS")
    runs = 1
    if record:
        with Path(record).open("a") as file:
            file.write(json.dumps({"input": text, "folder": str(Path.cwd())}) + "\n")
        runs = len(Path(record).read_text().splitlines())
    return text, kind if not number or int(number) == runs else ""


def main():
    text, kind = fault()
    if kind == "stranger":
        sys.exit("No gulpfile found")
    print(STARS + "\n*" + "GENERAL UTILITY LATTICE PROGRAM".center(78) + "*\n" + STARS)
    print("* Version = 6.2.0 * Last modified =  22nd August 2023".ljust(79) + "*\n" + STARS)
    if kind == "crash":
        sys.exit(139)
    if kind == "error":
        print("\n\n!! ERROR : Largest core-shell distance exceeds cutoff of cuts\n\n  Program terminated by gulp !!")
        return
    words, options, crystal = read_input(text.splitlines())
    print(components(crystal.energy(), crystal.pressure * abs(np.linalg.det(crystal.cell))))
    if "opti" not in words:
        return
    print("\n  Start of bulk optimisation :\n")
    tolerance = float(options.get("gmax", ["0.001"])[0])
    cycles, done = crystal.optimise(int(options["maxcyc"][0]), tolerance, relax_cell="conp" in words)
    energy = crystal.energy()
    for cycle in range(cycles + 1):
        print(f"  Cycle: {cycle:6d} Energy: {energy:16.6f}  Gnorm: {0.05:13.6f}  CPU: {0.006:8.3f}")
    ending = (
        "**** Optimisation achieved ****" if done else "**** Maximum number of function calls has been reached ****"
    )
    if kind == "no_lower_point":
        ending = (
            "**** Conditions for a minimum have not been satisfied. However ****\n"
            "  **** no lower point can be found - treat results with caution  ****\n"
            "  **** unless gradient norm is small (less than 0.1)             ****\n"
        )
    if kind == "cpu":
        ending = "**** CPU limit has been exceeded - restart optimisation ****"
    number = f"{energy:16.8f}" if kind != "stars" else "*" * 16
    name = "enthalpy" if crystal.pressure else "energy"
    print(f"\n\n  {ending}\n\n\n  Final {name} = {number} eV      \n  Final Gnorm  = {0.05:16.8f}")
    print(components(energy, crystal.pressure * abs(np.linalg.det(crystal.cell))))
    if kind == "collapse":
        crystal.cell = crystal.cell * 0.5
    if kind != "no_restart":
        write_restart(options["dump"][0], words, crystal, energy)
    print("\n  Job Finished at 09:58.43 23rd August     2023    \n")


main()
