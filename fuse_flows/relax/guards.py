"""Checks around a relaxation: pure functions that say what is wrong with a structure or with its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fuse_flows.relax.result import Outcome
from fuse_flows.structures.neighbours import neighbour_pairs, shortest_distance

if TYPE_CHECKING:
    from fuse_flows.config import TierConfig

#: No sane structure has a larger force on an atom, eV/A.
ABSURD_FORCE = 1e5


class Verdict(NamedTuple):
    """Why a relaxation must end here."""

    outcome: Outcome
    reason: str


def too_close(contact: float, tier: TierConfig) -> Verdict:
    """Return the verdict on a contact (A) below the tier's limit."""
    return Verdict(Outcome.TOO_CLOSE, f"contact of {contact:.2f} A, below {tier.min_distance:g} A")


def isolated(number: float, cutoff: float) -> Verdict:
    """Return the verdict on atoms without a neighbour within a cut-off (A)."""
    return Verdict(Outcome.ISOLATED_ATOMS, f"{number:.0f} atoms without a neighbour within {cutoff:g} A")


def exploded(factor: float) -> Verdict:
    """Return the verdict on a volume that changed by an absurd factor."""
    return Verdict(Outcome.EXPLODED, f"volume changed by a factor of {factor:.3g}")


def absurd_force(fmax: float) -> Verdict:
    """Return the verdict on a force (eV/A) that no sane structure has."""
    return Verdict(Outcome.EXPLODED, f"force of {fmax:.3g} eV/A")


def out_of_steps(residual: str, steps: int) -> Verdict:
    """Return the verdict on a relaxation that made all steps it may; see :func:`residual_of`."""
    return Verdict(Outcome.NOT_CONVERGED, f"{residual} after {steps} steps")


def out_of_time(residual: str, seconds: float) -> Verdict:
    """Return the verdict on a relaxation that took all time it may; see :func:`residual_of`."""
    return Verdict(Outcome.TIMED_OUT, f"{residual} after {seconds:.0f} s")


def residual_of(tier: TierConfig, fmax: float, smax: float | None) -> str:
    """Say in words which force (eV/A) and, where the cell is relaxed, which stress (GPa) are left."""
    return f"force {fmax:.3g} eV/A" + (f", stress {smax:.3g} GPa" if tier.relax_cell else "")


def isolated_atoms(lattice: np.ndarray, frac_coords: np.ndarray, cutoff: float) -> list[int]:
    """Atoms that have no neighbour within a cut-off; periodic images, an atom's own too, are neighbours.

    Parameters
    ----------
    lattice
        (3, 3) rows are the lattice vectors, A.
    frac_coords
        (n, 3) fractional coordinates.
    cutoff
        The model's own cut-off, A.

    Returns
    -------
    list of int
        Their indices.
    """
    centre, _, _ = neighbour_pairs(lattice, frac_coords, cutoff)
    return np.setdiff1d(np.arange(len(frac_coords)), centre).tolist()


def volume_factor(lattice: np.ndarray, reference: np.ndarray) -> float:
    """How many times larger, or smaller, a cell is than a reference; never below one.

    Parameters
    ----------
    lattice, reference
        (3, 3) rows are the lattice vectors, A.

    Returns
    -------
    float
        The larger of V/V_ref and V_ref/V; infinity for a flat or undefined cell.
    """
    volume, before = abs(float(np.linalg.det(lattice))), abs(float(np.linalg.det(reference)))
    if not (np.isfinite(volume) and volume > 0 and before > 0):
        return float("inf")
    return max(volume / before, before / volume)


def check_contacts(tier: TierConfig, lattice: np.ndarray, frac_coords: np.ndarray) -> Verdict | None:
    """Refuse contacts below the tier's limit.

    Parameters
    ----------
    tier
        Its ``min_distance`` is the limit, A.
    lattice, frac_coords
        The structure; images of an atom itself count.

    Returns
    -------
    Verdict or None
        ``TOO_CLOSE``, ``EXPLODED`` for numbers that are not finite, or None if all is well.
    """
    if not (np.isfinite(lattice).all() and np.isfinite(frac_coords).all()):
        return Verdict(Outcome.EXPLODED, "positions or cell are not finite")
    contact = shortest_distance(lattice, frac_coords)
    if contact >= tier.min_distance:
        return None
    return too_close(contact, tier)


def check_isolated(cutoff: float | None, lattice: np.ndarray, frac_coords: np.ndarray) -> Verdict | None:
    """Refuse atoms that the model cannot see.

    Parameters
    ----------
    cutoff
        The model's own cut-off, A; None: nothing is checked.
    lattice, frac_coords
        The structure, as in :func:`isolated_atoms`.

    Returns
    -------
    Verdict or None
        ``ISOLATED_ATOMS``, or None if all is well.
    """
    if cutoff is None:
        return None
    alone = isolated_atoms(lattice, frac_coords, cutoff)
    return isolated(len(alone), cutoff) if alone else None


def check_geometry(
    tier: TierConfig, cutoff: float | None, lattice: np.ndarray, frac_coords: np.ndarray, reference: np.ndarray
) -> Verdict | None:
    """Judge the structure an optimiser moved to, before the calculator sees it.

    Parameters
    ----------
    tier
        Its ``max_volume_change`` and ``min_distance`` are the limits. Atoms that came too close do not part again:
        machine-learned potentials attract them, and the steps that follow are wasted.
    cutoff
        The model's own cut-off, A, or None.
    lattice, frac_coords
        The structure.
    reference
        (3, 3) cell before the relaxation, A.

    Returns
    -------
    Verdict or None
        ``EXPLODED``, ``TOO_CLOSE`` or ``ISOLATED_ATOMS``, or None if all is well.
    """
    if not (np.isfinite(lattice).all() and np.isfinite(frac_coords).all()):
        return Verdict(Outcome.EXPLODED, "positions or cell are not finite")
    factor = volume_factor(lattice, reference)
    if factor > tier.max_volume_change:
        return exploded(factor)
    return check_contacts(tier, lattice, frac_coords) or check_isolated(cutoff, lattice, frac_coords)


def check_numbers(energy: float, forces: np.ndarray, stress: np.ndarray | None) -> Verdict | None:
    """Judge what a calculator returned.

    Parameters
    ----------
    energy
        Total energy, eV.
    forces
        (n, 3) forces, eV/A.
    stress
        Stress, any unit; None if it is not needed.

    Returns
    -------
    Verdict or None
        ``ENGINE_ERROR`` for a number that is not finite, ``EXPLODED`` for an absurd force, or None if all is well.
    """
    for name, value in (("energy", energy), ("forces", forces), ("stress", stress)):
        if value is not None and not np.isfinite(value).all():
            return Verdict(Outcome.ENGINE_ERROR, f"{name} not finite")
    fmax = float(np.linalg.norm(forces, axis=1).max())
    return absurd_force(fmax) if fmax > ABSURD_FORCE else None
