"""What generators and energy models hand to one another: bare cells, many at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from pymatgen.core import Structure


class Cell(NamedTuple):
    """One ordered crystal as arrays, for rooms where thousands of them pass in a second.

    Attributes
    ----------
    lattice
        Lattice vectors as rows, angstrom, shape (3, 3).
    numbers
        Atomic numbers, shape (n,).
    frac_coords
        Fractional coordinates in [0, 1), shape (n, 3).
    """

    lattice: NDArray[np.float64]
    numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]

    def to_structure(self) -> Structure:
        """Return it as a pymatgen structure."""
        from pymatgen.core import Element, Lattice, Structure

        species = [Element.from_Z(int(number)) for number in self.numbers]
        return Structure(Lattice(self.lattice), species, self.frac_coords)


@runtime_checkable
class EnergyModel(Protocol):
    """Anything that predicts the energy of unrelaxed structures, many at once."""

    @property
    def name(self) -> str:
        """Name of the model, as in the configuration."""
        ...

    @property
    def version(self) -> str:
        """Version of the model, or a hash of its file."""
        ...

    def check(self, symbols: Sequence[str]) -> None:
        """Refuse elements that the model does not know.

        Raises
        ------
        ConfigError
            Naming the elements.
        """
        ...

    def energies(self, cells: Sequence[Cell]) -> NDArray[np.float64]:
        """Predict energies; cells of the same composition are ordered by them.

        Parameters
        ----------
        cells
            Any number of cells, of any size.

        Returns
        -------
        numpy.ndarray
            Energies in eV/atom, shape (len(cells),); NaN where the model has none.
        """
        ...
