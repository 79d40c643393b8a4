"""An ASE calculator of rigid ions; see :mod:`fuse_flows.relax.rigid_ions` for what they feel."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from fuse_flows.relax.rigid_ions import (
    CHARGES,
    CUTOFF,
    EWALD_CUTOFF,
    PAIRS,
    PairConstants,
    by_pair,
    ewald_tables,
    long_range_of,
    pair_tables,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ase import Atoms

    from fuse_flows.potentials.ewald import LongRange
    from fuse_flows.potentials.tables import PairTables


class BuckinghamCalculator(Calculator):
    """Energy (eV), forces (eV/A) and stress (eV/A^3) of rigid ions.

    Parameters
    ----------
    charges
        Charge of each element, e; None: Ti 4, Sr 2, Y 3, O -2.
    pairs
        A (eV), rho (A) and C (eV A^6) by pair, such as ``{"Sr-O": (1952.39, 0.33685, 19.22)}``; None: those of
        ``PAIRS``. A pair that is missing feels only its charges.
    cutoff
        Range of all interactions between pairs, A; None: 10, or 12 with an Ewald sum.
    coulomb
        ``"shifted"`` or ``"ewald"``.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(
        self,
        charges: Mapping[str, float] | None = None,
        pairs: Mapping[str, Sequence[float]] | None = None,
        cutoff: float | None = None,
        coulomb: str = "shifted",
    ) -> None:
        super().__init__()
        if coulomb not in {"shifted", "ewald"}:
            msg = f"coulomb must be 'shifted' or 'ewald', not {coulomb!r}"
            raise ValueError(msg)
        self.is_ewald = coulomb == "ewald"
        self.cutoff = float(cutoff if cutoff is not None else EWALD_CUTOFF if self.is_ewald else CUTOFF)
        self.charges = dict(CHARGES if charges is None else charges)
        self._pairs = dict(PAIRS if pairs is None else pairs)
        self._constants = by_pair(self._pairs)
        self.long_range = long_range_of(self.charges, self._constants) if self.is_ewald else None
        self._tables: dict[tuple[int, ...], PairConstants] = {}
        self._made: dict[tuple[str, ...], PairTables] = {}

    def tables(self, symbols: Iterable[str]) -> PairTables:
        """Return the same potentials as tables; see :func:`.pair_tables`."""
        make = ewald_tables if self.is_ewald else pair_tables
        return make(symbols, self.charges, self._pairs, self.cutoff)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute all properties at once; see :class:`ase.calculators.calculator.Calculator`."""
        super().calculate(atoms, properties, system_changes)
        if self.is_ewald:
            self.results = self._ewald(self.atoms)
            return
        numbers = self.atoms.numbers
        table = self._table(numbers)
        kinds = np.searchsorted(table.numbers, numbers)
        centre, vectors, distance, other = _neighbours(self.atoms, self.cutoff)
        pair = table.index[kinds[centre], kinds[other]]
        energy, slope = table.evaluate(pair, distance)
        along = vectors * (slope / distance)[:, None]
        forces = np.stack([np.bincount(centre, weights=along[:, k], minlength=len(numbers)) for k in range(3)], axis=1)
        stress = 0.5 * (vectors.T @ along) / self.atoms.get_volume()
        total = float(0.5 * energy.sum() + table.self_energy[kinds].sum())
        self.results = {
            "energy": total,
            "free_energy": total,
            "forces": forces,
            "stress": full_3x3_to_voigt_6_stress(stress),
        }

    def _ewald(self, atoms: Atoms) -> dict[str, float | np.ndarray]:
        """Properties with an Ewald sum, from the tables and the compiled reciprocal part."""
        from fuse_flows.potentials.evaluator import evaluate
        from fuse_flows.potentials.ewald import reciprocal_sum, splitting

        beyond = cast("LongRange", self.long_range)
        symbols = atoms.get_chemical_symbols()
        key = tuple(sorted(set(symbols)))
        if key not in self._made:
            self._made[key] = self.tables(key)
        numbers = evaluate(self._made[key], symbols, atoms.cell.array, atoms.positions)
        cell, volume = np.ascontiguousarray(atoms.cell.array), atoms.get_volume()
        positions, charges = np.ascontiguousarray(atoms.positions), beyond.charges_of(symbols)
        tail = beyond.tail_of(symbols, self.cutoff) / volume
        forces, virial = numbers.forces.copy(), numbers.stress * volume - tail * np.eye(3)
        energy = numbers.energy + tail
        energy += reciprocal_sum(cell, positions, charges, splitting(self.cutoff), forces, virial)
        stress = full_3x3_to_voigt_6_stress(virial / volume)
        return {"energy": energy, "free_energy": energy, "forces": forces, "stress": stress}

    def _table(self, numbers: np.ndarray) -> PairConstants:
        """Constants of all pairs of these elements, made once per set of elements."""
        key = tuple(sorted({int(z) for z in numbers}))
        if key not in self._tables:
            symbols = [chemical_symbols[z] for z in key]
            lacking = set(symbols) - set(self.charges)
            if lacking:
                msg = f"no charge for {', '.join(sorted(lacking))}"
                raise ValueError(msg)
            self._tables[key] = PairConstants.build(symbols, self.charges, self._constants, self.cutoff)
        return self._tables[key]


def _neighbours(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Directed pairs within the cut-off: centre, vector to the neighbour (A), its length (A), neighbour."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    cell = np.ascontiguousarray(atoms.cell.array)
    coords = np.ascontiguousarray(atoms.get_scaled_positions(wrap=True) @ cell)
    centre, other, image, distance = find_points_in_spheres(
        coords, coords, r=cutoff, pbc=np.ones(3, dtype=np.int64), lattice=cell, tol=1e-8
    )
    keep = (centre != other) | image.any(axis=1)
    centre, other, image, distance = centre[keep], other[keep], image[keep], distance[keep]
    return centre, coords[other] + image @ cell - coords[centre], distance, other
