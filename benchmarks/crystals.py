"""Published crystal structures that the benchmarks look for, written down from lattice parameters and coordinates.

Sources: COD: Crystallography Open Database (public domain), with the number of the entry; mp: Materials Project
(A. Jain et al., APL Mater. 1, 011002 (2013), CC-BY-4.0), relaxed with DFT, with the number of the entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from pymatgen.core import Lattice, Structure

Sites = tuple[tuple[str, tuple[float, float, float]], ...]

CUBIC = (90.0, 90.0, 90.0)
HEXAGONAL = (90.0, 90.0, 120.0)
THIRD, TWO_THIRDS = 1 / 3, 2 / 3


@dataclass(frozen=True)
class Crystal:
    """A crystal structure.

    Parameters
    ----------
    name
        Of the structure, not of the compound.
    source
        Where the parameters were published.
    space_group
        Symbol, in the setting of spglib's first choice as pymatgen knows it.
    lengths, angles
        Of the conventional cell, angstrom and degrees.
    sites
        Element and fractional coordinates of each orbit.
    """

    name: str
    source: str
    space_group: str
    lengths: tuple[float, float, float]
    angles: tuple[float, float, float]
    sites: Sites

    @property
    def structure(self) -> Structure:
        """The primitive cell."""
        lattice = Lattice.from_parameters(*self.lengths, *self.angles)
        species, coords = [el for el, _ in self.sites], [list(xyz) for _, xyz in self.sites]
        crystal = Structure.from_spacegroup(self.space_group, lattice, species, coords)
        return crystal.get_primitive_structure(tolerance=0.01)


def _cubic(
    name: str, source: str, space_group: str, a: float, *sites: tuple[str, tuple[float, float, float]]
) -> Crystal:
    return Crystal(name, source, space_group, (a, a, a), CUBIC, sites)


CRYSTALS = {
    "MgO": _cubic("rocksalt", "a = 4.212 A, as measured", "Fm-3m", 4.212, ("Mg", (0, 0, 0)), ("O", (0.5, 0.5, 0.5))),
    "NaCl": _cubic("rocksalt", "COD 9008678", "Fm-3m", 5.64056, ("Na", (0, 0, 0)), ("Cl", (0.5, 0.5, 0.5))),
    "ZnS": _cubic("sphalerite", "COD 9000107", "F-43m", 5.4093, ("Zn", (0, 0, 0)), ("S", (0.25, 0.25, 0.25))),
    "CaF2": _cubic("fluorite", "COD 9009005", "Fm-3m", 5.46295, ("Ca", (0, 0, 0)), ("F", (0.25, 0.25, 0.25))),
    "Mg2Si": _cubic("antifluorite", "mp-1367", "Fm-3m", 6.34, ("Si", (0, 0, 0)), ("Mg", (0.25, 0.25, 0.25))),
    "SrTiO3": _cubic(
        "perovskite", "COD 9006864", "Pm-3m", 3.90528, ("Sr", (0.5, 0.5, 0.5)), ("Ti", (0, 0, 0)), ("O", (0.5, 0, 0))
    ),
    "FeS2": _cubic("pyrite", "COD 5000115", "Pa-3", 5.4179, ("Fe", (0, 0, 0)), ("S", (0.384, 0.384, 0.384))),
    "MgAl2O4": _cubic(
        "spinel",
        "mp-3536",
        "Fd-3m",
        8.0804,
        ("Mg", (0, 0, 0)),
        ("Al", (0.125, 0.125, 0.625)),
        ("O", (0.11128, 0.11128, 0.38872)),
    ),
    "Li3N": Crystal(
        "alpha-Li3N",
        "A. Rabenau and H. Schulz, J. Less-Common Met. 50, 155 (1976)",
        "P6/mmm",
        (3.648, 3.648, 3.875),
        HEXAGONAL,
        (("N", (0, 0, 0)), ("Li", (0, 0, 0.5)), ("Li", (THIRD, TWO_THIRDS, 0))),
    ),
    "NiAs": Crystal(
        "nickeline",
        "COD 9008902",
        "P6_3/mmc",
        (3.602, 3.602, 5.009),
        HEXAGONAL,
        (("Ni", (0, 0, 0)), ("As", (THIRD, TWO_THIRDS, 0.25))),
    ),
    "TiO2": Crystal(
        "rutile",
        "COD 9009083",
        "P4_2/mnm",
        (4.59373, 4.59373, 2.95812),
        CUBIC,
        (("Ti", (0, 0, 0)), ("O", (0.3053, 0.3053, 0))),
    ),
    "CoAs2": Crystal(
        "clinosafflorite",
        "mp-2715",
        "P2_1/c",
        (5.8835, 5.8449, 5.9351),
        (90.0, 115.7916, 90.0),
        (
            ("Co", (0.27099, 0.50147, 0.7844)),
            ("As", (0.15412, 0.13312, 0.86707)),
            ("As", (0.34329, 0.63404, 0.17429)),
        ),
    ),
    "SiO2": Crystal(
        "alpha-quartz",
        "COD 5000035",
        "P3_221",
        (4.91239, 4.91239, 5.40385),
        HEXAGONAL,
        (("Si", (0.4701, 0, TWO_THIRDS)), ("O", (0.4139, 0.2674, 0.7856))),
    ),
    "Al2O3": Crystal(
        "corundum",
        "mp-1143",
        "R-3c",
        (4.805, 4.805, 13.1163),
        HEXAGONAL,
        (("Al", (0, 0, 0.1479)), ("O", (0, 0.30615, 0.75))),
    ),
    "Sr4Ti3O10": Crystal(
        "Ruddlesden-Popper n=3",
        "mp-31213",
        "I4/mmm",
        (3.9107, 3.9107, 28.1832),
        CUBIC,
        (
            ("Sr", (0, 0, 0.56849)),
            ("Sr", (0.5, 0.5, 0.79759)),
            ("Ti", (0, 0, 0)),
            ("Ti", (0, 0, 0.85991)),
            ("O", (0.5, 0, 0.6389)),
            ("O", (0, 0, 0.79064)),
            ("O", (0.5, 0, 0)),
            ("O", (0.5, 0.5, 0.56947)),
        ),
    ),
    "Y2TiO5": Crystal(
        "Pnma",
        "mp-17559, axes c, a, b",
        "Pnma",
        (10.3558, 3.6852, 11.2496),
        CUBIC,
        (
            ("Y", (0.63611, 0.25, 0.94347)),
            ("Y", (0.61521, 0.25, 0.27718)),
            ("Ti", (0.6742, 0.25, 0.61943)),
            ("O", (0.76403, 0.25, 0.11674)),
            ("O", (0.00644, 0.25, 0.84531)),
            ("O", (0.75639, 0.25, 0.77082)),
            ("O", (0.50616, 0.75, 0.89488)),
            ("O", (0.77552, 0.75, 0.95707)),
        ),
    ),
    "KNbO3": Crystal(
        "perovskite, R3m",
        "mp-7375",
        "R3m",
        (5.7739, 5.7739, 7.1092),
        HEXAGONAL,
        (("K", (0, 0, 0.98701)), ("Nb", (0, 0, 0.49995)), ("O", (0.16805, 0.3361, 0.30218))),
    ),
    "LaB6": _cubic("hexaboride", "mp-2680", "Pm-3m", 4.1549, ("La", (0, 0, 0)), ("B", (0.80041, 0.5, 0.5))),
    "MgB2": Crystal(
        "AlB2",
        "mp-763",
        "P6/mmm",
        (3.0737, 3.0737, 3.5343),
        HEXAGONAL,
        (("Mg", (0, 0, 0)), ("B", (THIRD, TWO_THIRDS, 0.5))),
    ),
    "Cr2O3": Crystal(
        "corundum",
        "mp-19399",
        "R-3c",
        (5.0698, 5.0698, 13.8716),
        HEXAGONAL,
        (("Cr", (0, 0, 0.34814)), ("O", (0.3038, 0, 0.25))),
    ),
    "CuFeS2": Crystal(
        "chalcopyrite",
        "Hall and Stewart, Acta Cryst. B 29, 579 (1973), 10.1107/S0567740873002943",
        "I-42d",
        (5.289, 5.289, 10.423),
        CUBIC,
        (("Cu", (0, 0, 0)), ("Fe", (0, 0, 0.5)), ("S", (0.2574, 0.25, 0.125))),
    ),
    "Cu3Au": _cubic("L1_2", "a of the alloy, 3.75 A", "Pm-3m", 3.75, ("Au", (0, 0, 0)), ("Cu", (0.5, 0.5, 0))),
}
"""By reduced formula."""
