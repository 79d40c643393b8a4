"""The program that runs GPAW for another process: started as ``LAUNCHER python engine.py``, on any number of ranks.

It needs GPAW and nothing of fuse_flows, so it may run in another Python. Requests come on the stdin of the first rank,
one JSON document per line; an answer is a line on its stdout that begins with :data:`MARK`, and everything else that is
printed there counts for nothing. It ends with its stdin. It writes GPAW's text to ``gpaw.txt`` in its working folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

MARK = "fuse_flows:"
"""Beginning of a line that is an answer."""


class _Desk:
    """Does what requests ask; every rank has one, and all do the same."""

    def __init__(self) -> None:
        self._parameters: dict[str, Any] = {}
        self._atoms: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks, on all ranks."""
        return getattr(self, "_" + request.pop("do"))(**request)

    def _hello(self) -> dict[str, Any]:
        import gpaw
        from gpaw.mpi import world

        return {"version": gpaw.__version__, "ranks": int(world.size)}

    def _probe(self, elements: list[str], xc: str, setups: dict[str, str]) -> dict[str, Any]:
        """Say for which elements the data are missing, and why."""
        from gpaw.setup import create_setup
        from gpaw.xc import XC

        missing = {}
        for element in elements:
            try:
                create_setup(element, XC(xc), 0, setups.get(element, setups.get("default", "paw")))
            except Exception as error:  # noqa: BLE001 - whatever it is, this element cannot be computed
                missing[element] = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        return {"missing": missing}

    def _begin(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Forget all wave functions; what follows is computed from scratch, in the basis of the cell it has."""
        self._parameters, self._atoms = parameters, None
        return {}

    def _compute(
        self,
        *,
        numbers: list[int],
        cell: list[list[float]],
        positions: list[list[float]],
        magmoms: list[float],
        stress: bool,
    ) -> dict[str, Any]:
        """Compute energy (eV), forces (eV/A) and stress (eV/A^3)."""
        if self._atoms is not None:
            self._atoms.set_cell(cell)
            self._atoms.set_positions(positions)
            try:
                return self._numbers(stress=stress)
            except _electronic():
                raise
            except Exception:  # noqa: BLE001, S110 - such as a symmetry that was lost on the way: from scratch
                pass
        self._new_atoms(numbers, cell, positions, magmoms)
        return self._numbers(stress=stress)

    def _new_atoms(
        self, numbers: list[int], cell: list[list[float]], positions: list[list[float]], magmoms: list[float]
    ) -> None:
        from ase import Atoms
        from gpaw import GPAW

        self._atoms = None
        atoms = Atoms(numbers=numbers, cell=cell, positions=positions, pbc=True)
        if any(magmoms):
            atoms.set_initial_magnetic_moments(magmoms)
        atoms.calc = GPAW(**self._parameters, txt="gpaw.txt")
        self._atoms = atoms

    def _numbers(self, *, stress: bool) -> dict[str, Any]:
        """Return the numbers, rounded: GPAW's scatter in the thirteenth digit, and a search shall not."""
        atoms = self._atoms
        energy = float(atoms.get_potential_energy())
        found = {
            "energy": round(energy, 8),
            "free_energy": round(float(atoms.calc.get_potential_energy(atoms, force_consistent=True)), 8),
            "forces": atoms.get_forces().round(8).tolist(),
            "stress": atoms.get_stress(voigt=False).round(10).tolist() if stress else None,
        }
        if atoms.get_initial_magnetic_moments().any():
            found["magmoms"] = atoms.get_magnetic_moments().tolist()
        return found


def _electronic() -> type[Exception]:
    """Return the exception that says that the electrons did not converge."""
    from gpaw import KohnShamConvergenceError

    return KohnShamConvergenceError


def _answer(desk: _Desk, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return desk.answer(request)
    except Exception as error:  # noqa: BLE001 - the other process is told
        desk._atoms = None  # noqa: SLF001 - what it holds is not to be trusted
        text = " ".join(f"{type(error).__name__}: {error}".split())
        kind = "electronic" if isinstance(error, _electronic()) else "error"
        return {"failure": kind, "reason": text[:500]}


def main() -> None:
    """Answer requests until there are no more."""
    own = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != own]
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        from gpaw.mpi import broadcast_string, world

        desk = _Desk()
        while True:
            line = broadcast_string(sys.stdin.readline() if world.rank == 0 else None, root=0, comm=world)
            if not line.strip():
                break
            found = _answer(desk, json.loads(line))
            if world.rank == 0:
                answers.write(f"{MARK}{json.dumps(found)}\n")
                answers.flush()
            if found.get("failure") == "error" and world.size > 1:
                os._exit(1)  # other ranks may hang in the middle; a launcher ends them with this one


if __name__ == "__main__":
    main()
