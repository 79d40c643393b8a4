"""Pair potentials as an ASE calculator."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from fuse_flows.potentials.evaluator import evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from fuse_flows.potentials.tables import PairTables


class PairCalculator(Calculator):
    """Energy (eV), forces (eV/A) and stress (eV/A^3) of tabulated pair potentials, periodic in all directions.

    Parameters
    ----------
    tables
        The potentials.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, tables: PairTables) -> None:
        super().__init__()
        self.tables = tables
        self.cutoff = tables.cutoff

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute all properties at once.

        Raises
        ------
        ConfigError
            If there is no potential for an element.
        GeometryError
            If atoms coincide or the cell has collapsed.
        """
        super().calculate(atoms, properties, system_changes)
        symbols = self.atoms.get_chemical_symbols()
        numbers = evaluate(self.tables, symbols, self.atoms.cell.array, self.atoms.positions)
        self.results = {
            "energy": numbers.energy,
            "free_energy": numbers.energy,
            "forces": numbers.forces,
            "stress": full_3x3_to_voigt_6_stress(numbers.stress),
        }
