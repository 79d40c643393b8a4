"""Rigid ions with Coulomb and Buckingham potentials: what two ions feel, as functions and as tables.

V(r) = q_i q_j / (4 pi eps_0 r) + A exp(-r / rho) - C / r^6 in a periodic crystal.

* Coulomb: damped and shifted force (Fennell and Gezelter, J. Chem. Phys. 124, 234104 (2006)), alpha = 0.2 / A and a
  cut-off of 10 A. Energy and force vanish smoothly at the cut-off, so energy, forces and stress agree with each other
  for any cell, at a fraction of the cost of an Ewald sum and within about one per cent of its lattice energy.
* Buckingham: shifted to zero energy and zero force at the same cut-off.
* With ``coulomb="ewald"`` the charges are summed to infinity (Ewald). The Buckingham terms are switched off from
  11.9 to 12 A, without a shift, and the tail of the dispersion is added. These are the energies of the FUSE papers
  within 0.4 meV/atom, most of which is the older value of the Coulomb constant in GULP.
* Wall: -C / r^6 beats the exponential at short range, and two ions would fall into each other. Below the radius at
  which the repulsive force of a pair is largest, its potential goes on as a parabola plus a steep cubic wall, with
  continuous force and curvature.

The constants are the Ti/Sr/Y oxide potentials used in the FUSE papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols
from ase.units import Bohr, Hartree
from scipy.special import erfc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fuse_flows.potentials.ewald import LongRange
    from fuse_flows.potentials.tables import PairTables

COULOMB = Hartree * Bohr  # e^2 / (4 pi eps_0), eV A
ALPHA = 0.2  # damping of the Coulomb interaction, 1/A
CUTOFF = 10.0  # A
EWALD_CUTOFF = 12.0  # A
SWITCH = 0.1  # A
WALL = 2000.0  # strength of the cubic wall, eV/A^3
FIRST_KNOT, SPACING = 0.4, 0.002  # of the tables, A
WALL_RANGE = (0.4, 1.9)  # where the largest repulsive force of a pair is looked for, A

#: Charges, e: Ti/Sr/Y oxide potentials used in the FUSE papers.
CHARGES = {"Ti": 4.0, "Sr": 2.0, "Y": 3.0, "O": -2.0}

#: A (eV), rho (A) and C (eV A^6) of each pair, from the same source.
PAIRS = {
    "Sr-O": (1952.39, 0.33685, 19.22),
    "Ti-O": (4590.7279, 0.261, 0.0),
    "O-O": (1388.77, 0.36262, 175.0),
    "Y-O": (23000.0, 0.24203, 0.0),
}


@dataclass(frozen=True)
class PairConstants:
    """Constants of the pairs of a set of elements; pairs are numbered along the first axis."""

    numbers: np.ndarray
    index: np.ndarray
    qq: np.ndarray
    a: np.ndarray
    rho: np.ndarray
    c: np.ndarray
    shift: np.ndarray
    tilt: np.ndarray
    wall: np.ndarray
    self_energy: np.ndarray
    cutoff: float

    @classmethod
    def build(
        cls,
        symbols: Sequence[str],
        charges: Mapping[str, float],
        constants: Mapping[frozenset[str], tuple[float, float, float]],
        cutoff: float,
    ) -> PairConstants:
        """Collect the constants and find, for each pair, the shifts at the cut-off and the start of the wall.

        Parameters
        ----------
        symbols
            The elements; each has a charge.
        charges
            Charge of each element, e.
        constants
            What :func:`by_pair` returned.
        cutoff
            Range of all interactions, A.

        Returns
        -------
        PairConstants
            Of damped and shifted charges.
        """
        index = np.zeros((len(symbols), len(symbols)), dtype=int)
        rows = []
        for k, (i, j) in enumerate(combinations_with_replacement(range(len(symbols)), 2)):
            index[i, j] = index[j, i] = k
            a, rho, c = constants.get(frozenset((symbols[i], symbols[j])), (0.0, 1.0, 0.0))
            qq = COULOMB * charges[symbols[i]] * charges[symbols[j]]
            at_cutoff = _bare(np.array(cutoff), qq, a, rho, c)
            rows.append((qq, a, rho, c, at_cutoff[0], at_cutoff[1], *_wall(qq, a, rho, c)))
        columns = np.array(rows).T
        charge = np.array([charges[el] for el in symbols])
        self_energy = -COULOMB * charge**2 * (erfc(ALPHA * cutoff) / (2 * cutoff) + ALPHA / np.sqrt(np.pi))
        numbers = np.array([chemical_symbols.index(el) for el in symbols])
        qq, a, rho, c, shift, tilt = columns[:6]
        return cls(numbers, index, qq, a, rho, c, shift, tilt, columns[6:].T, self_energy, cutoff)

    def evaluate(self, pair: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energy (eV) and slope dV/dr (eV/A) of each pair at its distance (A)."""
        qq, a, rho, c = self.qq[pair], self.a[pair], self.rho[pair], self.c[pair]
        wall = self.wall[pair, 0]
        inside = np.flatnonzero(distance < wall)
        energy, slope = _bare(np.maximum(distance, wall), qq, a, rho, c)
        if inside.size:
            start, curvature = self.wall[pair[inside]].T
            depth = distance[inside] - start
            energy[inside] += depth * (slope[inside] + 0.5 * curvature * depth) - WALL / 6 * depth**3
            slope[inside] += depth * (curvature - 0.5 * WALL * depth)
        shift, tilt = self.shift[pair], self.tilt[pair]
        return energy - shift - tilt * (distance - self.cutoff), slope - tilt


def pair_tables(
    symbols: Iterable[str],
    charges: Mapping[str, float] | None = None,
    pairs: Mapping[str, Sequence[float]] | None = None,
    cutoff: float = CUTOFF,
) -> PairTables:
    """Tabulate the potentials, with damped and shifted charges, for the compiled relaxer.

    Energies agree with :class:`.BuckinghamCalculator` within 1e-7 eV per pair above 0.9 A and within 1e-5 eV at any
    distance above 0.4 A.

    Parameters
    ----------
    symbols
        Elements.
    charges, pairs, cutoff
        As in :class:`.BuckinghamCalculator`.

    Returns
    -------
    PairTables
        Splines with a knot every 0.002 A, and the self energies of the charges.

    Raises
    ------
    ConfigError
        If an element has no charge.
    """
    from fuse_flows.potentials.tables import PairTables

    elements, known = _with_charges(symbols, charges)
    table = PairConstants.build(elements, known, by_pair(PAIRS if pairs is None else pairs), float(cutoff))
    r = _grid(float(cutoff))
    values = {
        (elements[i], elements[j]): table.evaluate(np.full(r.size, table.index[i, j]), r)[0]
        for i, j in combinations_with_replacement(range(len(elements)), 2)
    }
    return PairTables(elements, r, values, dict(zip(elements, table.self_energy.tolist(), strict=True)), wall=WALL)


def ewald_tables(
    symbols: Iterable[str],
    charges: Mapping[str, float] | None = None,
    pairs: Mapping[str, Sequence[float]] | None = None,
    cutoff: float = EWALD_CUTOFF,
) -> PairTables:
    """Tabulate what pairs feel beside the reciprocal part of an Ewald sum; see :func:`pair_tables`.

    The wall replaces the whole of q q / r and Buckingham below its radius, as in the other mode.
    """
    from scipy.special import erf

    from fuse_flows.potentials.ewald import splitting
    from fuse_flows.potentials.tables import PairTables, taper

    elements, known = _with_charges(symbols, charges)
    constants = by_pair(PAIRS if pairs is None else pairs)
    alpha, r, values = splitting(float(cutoff)), _grid(float(cutoff)), {}
    for one, two in combinations_with_replacement(elements, 2):
        qq = COULOMB * known[one] * known[two]
        a, rho, c = constants.get(frozenset((one, two)), (0.0, 1.0, 0.0))
        radius, curvature = _wall(qq, a, rho, c, alpha=0.0)
        energy, slope = _bare(np.maximum(r, radius), qq, a, rho, c, alpha=0.0)
        depth = np.minimum(r - radius, 0.0)
        whole = energy + depth * (slope + 0.5 * curvature * depth) - WALL / 6 * depth**3
        short = taper(r, whole - qq / r, SWITCH) + qq / r
        values[one, two] = short - qq * erf(alpha * r) / r
    own = {el: -COULOMB * alpha / np.sqrt(np.pi) * known[el] ** 2 for el in elements}
    return PairTables(elements, r, values, own, wall=WALL)


def missing_elements(
    elements: Iterable[str],
    charges: Mapping[str, float] | None = None,
    pairs: Mapping[str, Sequence[float]] | None = None,
    cutoff: float | None = None,  # noqa: ARG001 - the keywords of the calculator are passed as they are
    coulomb: str = "shifted",  # noqa: ARG001
) -> set[str]:
    """Elements that have no charge, or no repulsion from an element of the opposite charge.

    Parameters
    ----------
    elements
        Symbols.
    charges, pairs, cutoff, coulomb
        As in :class:`.BuckinghamCalculator`.

    Returns
    -------
    set of str
        The symbols that are lacking.
    """
    symbols = sorted(set(elements))
    known = CHARGES if charges is None else charges
    lacking = {el for el in symbols if el not in known}
    constants = by_pair(PAIRS if pairs is None else pairs)
    for one, two in combinations_with_replacement([el for el in symbols if el not in lacking], 2):
        if known[one] * known[two] < 0 and frozenset((one, two)) not in constants:
            lacking |= {one, two}
    return lacking


def long_range_of(
    charges: Mapping[str, float], constants: Mapping[frozenset[str], tuple[float, float, float]]
) -> LongRange:
    """Return charges (e) and dispersion beyond the cut-off of an Ewald sum; ``constants`` as of :func:`by_pair`."""
    from fuse_flows.potentials.ewald import LongRange

    dispersion = {}
    for elements, (_, _, c) in constants.items():
        names = sorted(elements)
        dispersion[names[0], names[-1]] = c
    return LongRange(charges, dispersion, SWITCH)


def by_pair(pairs: Mapping[str, Sequence[float]]) -> dict[frozenset[str], tuple[float, float, float]]:
    """Return A (eV), rho (A) and C (eV A^6), given by names such as ``Sr-O``, by unordered pairs of symbols."""
    table = {}
    for name, constants in pairs.items():
        a, rho, c = (float(x) for x in constants)
        table[frozenset(name.split("-"))] = (a, rho, c)
    return table


def _with_charges(symbols: Iterable[str], charges: Mapping[str, float] | None) -> tuple[list[str], Mapping[str, float]]:
    """Elements in order and all charges, if there are enough of them."""
    from fuse_flows.errors import ConfigError

    elements = sorted(set(symbols))
    known = CHARGES if charges is None else charges
    lacking = [el for el in elements if el not in known]
    if lacking:
        raise ConfigError("tiers.calculator_kwargs", f"no charge for {', '.join(lacking)}; add it to charges")
    return elements, known


def _grid(cutoff: float) -> np.ndarray:
    return np.linspace(FIRST_KNOT, cutoff, int((cutoff - FIRST_KNOT) / SPACING) + 2)


def _bare(
    r: np.ndarray,
    qq: np.ndarray | float,
    a: np.ndarray | float,
    rho: np.ndarray | float,
    c: np.ndarray | float,
    *,
    alpha: float = ALPHA,
) -> tuple[np.ndarray, np.ndarray]:
    """Damped Coulomb and Buckingham energy (eV) and its slope (eV/A), not yet shifted, at r > 0 (A)."""
    damped = qq * erfc(alpha * r) / r
    repulsion = a * np.exp(-r / rho)
    dispersion = c / r**6
    gauss = qq * (2 * alpha / np.sqrt(np.pi)) * np.exp(-((alpha * r) ** 2))
    slope = -(damped + gauss) / r - repulsion / rho + 6 * dispersion / r
    return damped + repulsion - dispersion, slope


def _wall(qq: float, a: float, rho: float, c: float, *, alpha: float = ALPHA) -> tuple[float, float]:
    """Radius (A) where the repulsive force is largest and the wall begins, and the curvature (eV/A^2) there.

    A pair without a Buckingham term has none (radius 0): charges of like sign keep apart by themselves.
    """
    from scipy.optimize import minimize_scalar

    if a == 0.0:
        return 0.0, 0.0
    slope = partial(_slope, qq=qq, a=a, rho=rho, c=c, alpha=alpha)
    grid = np.linspace(*WALL_RANGE, 151)
    k = int(np.argmin([slope(r) for r in grid]))
    bracket = (grid[max(k - 1, 0)], grid[min(k + 1, grid.size - 1)])
    radius = float(minimize_scalar(slope, bounds=bracket, method="bounded", options={"xatol": 1e-10}).x)
    step = 1e-4
    return radius, max((slope(radius + step) - slope(radius - step)) / (2 * step), 0.0)


def _slope(r: float, qq: float, a: float, rho: float, c: float, *, alpha: float) -> float:
    return float(_bare(np.array(r), qq, a, rho, c, alpha=alpha)[1])
