"""A stand-in for the program VASP in tests: speaks its files, does no DFT, and can be told to go wrong.

It reads POSCAR, INCAR and POTCAR of its working directory, relaxes with a cheap potential honouring NSW, IBRION, ISIF,
EDIFF, EDIFFG, PSTRESS, NELM and a STOPCAR, and writes OUTCAR, vasprun.xml, OSZICAR and CONTCAR as far as custodian,
pymatgen and emmet read them. Nothing of it is a result of VASP, and nothing of it is part of the package.

Environment
-----------
VASP_STANDIN_MODEL
    ``pair`` (Morse wells, any element; default), ``emt`` or ``chgnet``.
VASP_STANDIN_FAULTS
    Faults such as ``zbrent:1@3,kill``: name, runs it strikes (default: all), stage it strikes (default: any).
VASP_STANDIN_EVERY
    Only one relaxation in so many gets a fault, and only one of those listed, by a hash of its first POSCAR.
VASP_STANDIN_LOG
    File to which every run appends a line: relaxation, stage, fault.
"""

import json
import os
import signal
import sys
import time
import zlib
from pathlib import Path

if __name__ == "__main__":  # monitors of custodian must not see the files of an earlier attempt while numpy loads
    for _name in ("OSZICAR", "OUTCAR", "vasprun.xml", "CONTCAR"):
        Path(_name).write_text("")

import numpy as np
from vasp_files import KBAR, Writer, read_incar, read_poscar, read_potcar

MESSAGES = {
    "zbrent": " ZBRENT: fatal error in bracketing\n     please rerun with smaller EDIFF, or copy CONTCAR\n"
    "     to POSCAR and continue",
    "brmix": " BRMIX: very serious problems\n the old and the new charge density differ",
    "posmap": " POSMAP internal error: symmetry equivalent atom not found",
    "eddrmm": " WARNING in EDDRMM: call to ZHEGV failed, returncode =   6  3   8",
}
RADII = {"O": 0.66, "Mg": 1.41, "Ca": 1.76, "Ti": 1.6, "Sr": 1.95, "Cu": 1.32, "Au": 1.36, "Al": 1.21, "Ni": 1.24}


class Crystal:
    """Cell and atoms with energy (eV), forces (eV/A) and stress (eV/A^3, positive under tension)."""

    def __init__(self, cell, symbols, frac):
        self.cell, self.symbols, self.frac = cell, symbols, frac
        kind = os.environ.get("VASP_STANDIN_MODEL", "pair")
        self.compute = pair_model(symbols) if kind == "pair" else ase_model(kind, symbols)
        self.evaluate()

    def evaluate(self):
        self.energy, self.forces, self.stress = self.compute(self.cell, self.frac @ self.cell)

    @property
    def volume(self):
        return abs(np.linalg.det(self.cell))


def pair_model(symbols):
    """Morse wells between unlike atoms at 1.2 times the sum of radii; like atoms only repel."""
    radii = np.array([RADII.get(symbol, 1.4) for symbol in symbols])
    unlike = np.not_equal.outer(symbols, symbols) | (len(set(symbols)) == 1)
    r0, depth = 1.2 * np.add.outer(radii, radii), np.where(unlike, 1.0, 0.0)
    wall, stiff, cutoff = np.where(unlike, 1.0, 0.3), 1.4, 6.0

    def compute(cell, cart):
        reach = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(cell), axis=0) + 1).astype(int)
        shifts = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), -1).reshape(-1, 3) @ cell
        vectors = cart[None, None, :] + shifts[:, None, None] - cart[None, :, None]
        shift, i, j = np.nonzero(((d := np.linalg.norm(vectors, axis=-1)) > 0.01) & (d < cutoff))
        d, v = d[shift, i, j], vectors[shift, i, j]
        x = np.exp(-stiff * (d - r0[i, j]))
        taper, slope = 0.5 * (1 + np.cos(np.pi * d / cutoff)), -0.5 * np.pi / cutoff * np.sin(np.pi * d / cutoff)
        well = wall[i, j] * x * x - 2 * depth[i, j] * x
        pull = -stiff * (2 * wall[i, j] * x * x - 2 * depth[i, j] * x) * taper + well * slope
        f = (pull / d)[:, None] * v
        forces = np.zeros_like(cart)
        np.add.at(forces, i, f)
        stress = 0.5 * f.T @ v / abs(np.linalg.det(cell))
        return 0.5 * float(well @ taper) - 2.0 * len(cart), forces, stress

    return compute


def ase_model(kind, symbols):
    from ase import Atoms

    if kind == "emt":
        from ase.calculators.emt import EMT

        calculator, zero = EMT(), -4.0 * len(symbols)  # a positive energy would be taken for an error
    else:
        from fuse_flows.relax.chgnet import ChgnetCalculator

        calculator, zero = ChgnetCalculator(), 0.0
    atoms = Atoms(symbols, pbc=True, calculator=calculator)

    def compute(cell, cart):
        atoms.set_cell(cell)
        atoms.set_positions(cart)
        return float(atoms.get_potential_energy()) + zero, atoms.get_forces(), atoms.get_stress(voigt=False)

    return compute


class Descent:
    """L-BFGS on positions and, with ISIF 3 and above, on the deformation of the cell."""

    def __init__(self, crystal, isif, pstress):
        self.crystal, self.moves_cell, self.pressure = crystal, isif >= 3, pstress / KBAR
        self.cell, self.cart = crystal.cell.copy(), crystal.frac @ crystal.cell
        self.scale = len(crystal.symbols) ** 0.5 * crystal.volume ** (1 / 3)
        self.history = []
        self.x = np.concatenate([self.cart.ravel(), self.scale * np.eye(3).ravel()])
        self.g = self.gradient()

    def gradient(self):
        bend = self.x[-9:].reshape(3, 3) / self.scale
        stress = self.crystal.stress + self.pressure * np.eye(3)
        on_cell = self.crystal.volume * stress @ np.linalg.inv(bend).T / self.scale
        on_cell = 0.5 * (on_cell + on_cell.T) if self.moves_cell else np.zeros((3, 3))
        return np.concatenate([-(self.crystal.forces @ bend).ravel(), on_cell.ravel()])

    @property
    def value(self):
        return self.crystal.energy + self.pressure * self.crystal.volume

    def step(self):
        q, stack = self.g.copy(), []
        for s, y, rho in reversed(self.history):
            stack.append(rho * (s @ q))
            q -= stack[-1] * y
        q *= 1 / 30 if not self.history else 1 / (self.history[-1][2] * (self.history[-1][1] @ self.history[-1][1]))
        for (s, y, rho), a in zip(self.history, reversed(stack), strict=True):
            q += (a - rho * (y @ q)) * s
        step = -q * min(1.0, 0.2 / max(np.abs(q).max(), 1e-12))
        before, self.x = self.g, self.x + step
        bend = self.x[-9:].reshape(3, 3) / self.scale
        self.crystal.cell = self.cell @ bend.T
        self.crystal.frac = (self.x[:-9].reshape(-1, 3) @ bend.T) @ np.linalg.inv(self.crystal.cell)
        self.crystal.evaluate()
        self.g = self.gradient()
        change = self.g - before
        self.history = [*self.history[-15:], (step, change, 1 / (step @ change))] if step @ change > 1e-10 else []


class Fault:
    """The fault that strikes this run; its name is empty if there is none."""

    def __init__(self):
        stage = int("0" + "".join(c for c in Path.cwd().name if c.isdigit()))
        relaxation = Path.cwd().parent / ".standin.json"
        known = json.loads(relaxation.read_text()) if relaxation.is_file() else self.plan()
        self.name = ""
        for fault in known["faults"]:
            if fault["runs"] > 0 and fault["stage"] in {0, stage}:
                fault["runs"] -= 1
                self.name = fault["name"]
                break
        relaxation.write_text(json.dumps(known))
        log = os.environ.get("VASP_STANDIN_LOG")
        if log:
            with Path(log).open("a") as file:
                line = {"relaxation": str(Path.cwd().parent), "stage": stage, "fault": self.name, "pid": os.getpid()}
                file.write(json.dumps(line) + "\n")

    @staticmethod
    def plan():
        """Choose the faults of a relaxation when its first run begins."""
        listed = []
        for text in filter(None, os.environ.get("VASP_STANDIN_FAULTS", "").split(",")):
            what, _, stage = text.partition("@")
            name, _, runs = what.partition(":")
            listed.append({"name": name, "runs": int(runs or 10**6), "stage": int(stage or 0)})
        every = int(os.environ.get("VASP_STANDIN_EVERY", "0"))
        if every and listed:
            drawn = zlib.crc32(Path("POSCAR").read_bytes())
            listed = [] if drawn % every else [listed[drawn // every % len(listed)]]
        return {"faults": listed}

    def before_step(self, number):
        """Go wrong before an ionic step is computed."""
        if self.name == "slow":
            time.sleep(0.4)
        if number < 2:
            return
        if self.name == "frozen":
            time.sleep(10000)
        if self.name == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.name in MESSAGES:
            say(MESSAGES[self.name])
            sys.exit(1)

    def after_end(self):
        if self.name == "truncated":
            text = Path("vasprun.xml").read_text()
            Path("vasprun.xml").write_text(text[: len(text) // 2])


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def is_converged(crystal, ediffg, change):
    if ediffg < 0:
        return np.linalg.norm(crystal.forces, axis=1).max() < -ediffg
    return change is not None and abs(change) < ediffg


def main():
    incar, fault = read_incar(), Fault()
    crystal = Crystal(*read_poscar())
    say(" running    1 mpi-ranks\n stand-in for tests\n POSCAR found")
    writer = Writer(crystal, incar, read_potcar())
    settings = writer.parameters
    nelm = int(settings["NELM"])
    loops = nelm if fault.name == "nelm" else min(nelm - 1, 3 + int(-np.log10(settings["EDIFF"])))
    descent, before, began = (
        Descent(crystal, int(settings["ISIF"]), float(settings["PSTRESS"])),
        None,
        time.monotonic(),
    )
    while True:
        fault.before_step(writer.steps + 1)
        if writer.steps:
            descent.step()
        writer.step(loops, time.monotonic() - began)
        say(f"{writer.steps:4d} F= {descent.value:.8E} E0= {descent.value:.8E}  d E =0.1E+00")
        change, before = None if before is None else descent.value - before, descent.value
        if is_converged(crystal, float(settings["EDIFFG"]), change):
            say(" reached required accuracy - stopping structural energy minimisation")
            break
        if writer.steps >= int(settings["NSW"]) or Path("STOPCAR").is_file() or settings["IBRION"] == -1:
            break
        began = time.monotonic()
    writer.end()
    fault.after_end()


if __name__ == "__main__":
    main()
