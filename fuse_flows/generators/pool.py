"""Members of the pool: structures that are ready before the search begins and travel with it in the database."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pymatgen.core import Structure

Vector = tuple[float, float, float]

_DIGITS = 8


class PoolMember(BaseModel):
    """One structure of the pool, as compact as JSON allows: a pool travels in the arguments of one job.

    Lattice vectors and coordinates are rounded to 1e-8, so that the same file gives the same member on every machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Where it comes from, such as the name of its file.")
    lattice: tuple[Vector, Vector, Vector] = Field(description="Lattice vectors as rows, angstrom.")
    numbers: tuple[int, ...] = Field(min_length=1, description="Atomic numbers.")
    frac_coords: tuple[Vector, ...] = Field(min_length=1, description="Fractional coordinates in [0, 1).")
    energy_per_atom: float | None = Field(None, description="Energy it was ranked by, eV/atom; None: by name.")
    source: Literal["file", "generated"] = Field("file", description="Who made it: the user, or a generator.")

    @classmethod
    def from_structure(cls, name: str, structure: Structure) -> Self:
        """Take an ordered structure in; what is not geometry (charges, labels) is left behind.

        Parameters
        ----------
        name
            Where it comes from.
        structure
            Ordered structure.

        Returns
        -------
        PoolMember
            With the atoms in the same order.
        """
        coords = np.round(structure.frac_coords - np.floor(structure.frac_coords), _DIGITS) % 1.0
        return cls(
            name=name,
            lattice=(np.round(structure.lattice.matrix, _DIGITS) + 0.0).tolist(),
            numbers=tuple(site.specie.Z for site in structure),
            frac_coords=tuple(map(tuple, coords.tolist())),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def to_structure(self) -> Structure:
        """Return the structure for the world outside this room."""
        from pymatgen.core import Element, Lattice, Structure

        species = [Element.from_Z(number) for number in self.numbers]
        return Structure(Lattice(self.lattice), species, self.frac_coords)


def dump_members(members: Iterable[PoolMember]) -> str:
    """Write members as JSON without spaces, as they travel in the arguments of a job.

    Parameters
    ----------
    members
        The members, in order.

    Returns
    -------
    str
        The same text for the same members.
    """
    values = [member.model_dump(mode="json", exclude_defaults=True) for member in members]
    return json.dumps(values, separators=(",", ":"))


def load_members(text: str) -> list[PoolMember]:
    """Read what :func:`dump_members` wrote."""
    return [PoolMember.model_validate(values) for values in json.loads(text)]


def median_volume(members: Sequence[PoolMember]) -> float | None:
    """Return the median volume per atom of the members, A^3, in multiples of 1e-4; None if there are none."""
    volumes = [abs(np.linalg.det(np.array(member.lattice))) / len(member) for member in members]
    return round(float(np.median(volumes)), 4) if volumes else None


def pool_digest(members: Sequence[PoolMember]) -> str:
    """Return what identifies a pool: a hash of its structures, in order; their names do not count.

    Parameters
    ----------
    members
        The members.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    content = [(member.lattice, member.numbers, member.frac_coords) for member in members]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
