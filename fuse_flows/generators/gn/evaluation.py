"""How good a network is: errors on compositions it has not seen, and whether bad cells look bad to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers
from scipy.stats import spearmanr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.generators.gn.data import LabelledSet
    from fuse_flows.potentials.crystals import Split

    Indices = NDArray[np.int64]

_HALOGENS = ("F", "Cl", "Br", "I")
_CHALCOGENS = ("S", "Se", "Te")
_METALLOIDS = ("H", "B", "C", "N", "Si", "P", "Ge", "As", "Sb")


def errors(data: LabelledSet, told: NDArray[np.float64], chosen: Indices) -> dict[str, float]:
    """Return count, mean and median of the absolute errors, eV/atom.

    Parameters
    ----------
    data
        Crystals with known energies.
    told
        Predicted formation energies of all of them, eV/atom, shape (len(data),).
    chosen
        Indices of those that count.
    """
    wrong = np.abs(told[chosen] - data.energies[chosen])
    if not len(wrong):
        return {"crystals": 0}
    return {
        "crystals": len(wrong),
        "mae": round(float(wrong.mean()), 5),
        "median": round(float(np.median(wrong)), 5),
        "rmse": round(float(np.sqrt((wrong**2).mean())), 5),
    }


def classes(data: LabelledSet, chosen: Indices) -> dict[str, Indices]:
    """Sort crystals by what they are made of and by how large they are.

    Parameters
    ----------
    data
        The crystals.
    chosen
        Indices of those to be sorted.

    Returns
    -------
    dict
        Indices by class; each crystal is in one class of compounds and in one of sizes.
    """

    def with_any(symbols: tuple[str, ...]) -> NDArray[np.bool_]:
        return np.asarray(data.composition[chosen][:, [atomic_numbers[symbol] for symbol in symbols]].any(axis=1))

    oxide, halide, chalcogenide = with_any(("O",)), with_any(_HALOGENS), with_any(_CHALCOGENS)
    covalent = with_any(_METALLOIDS)
    atoms = np.array([data.graphs.atoms[slice(*data.graphs.nodes[k : k + 2])].sum() for k in chosen])
    masks = {
        "oxides": oxide,
        "halides": halide & ~oxide,
        "chalcogenides": chalcogenide & ~oxide & ~halide,
        "others with H, B, C, N, Si, P, Ge, As, Sb": covalent & ~oxide & ~halide & ~chalcogenide,
        "metals": ~(covalent | oxide | halide | chalcogenide),
        "up to 10 atoms": atoms <= 10,
        "11 to 30 atoms": (atoms > 10) & (atoms <= 30),
        "more than 30 atoms": atoms > 30,
    }
    return {name: chosen[mask] for name, mask in masks.items()}


def report(data: LabelledSet, told: NDArray[np.float64], part: Split = "test") -> dict[str, Any]:
    """Return the errors on the crystals of one part, all together and by class.

    Parameters
    ----------
    data
        Crystals with known energies.
    told
        Predicted formation energies, eV/atom, shape (len(data),); NaN where there is none.
    part
        The part that counts.
    """
    chosen = data.indices(part)
    chosen = chosen[np.isfinite(told[chosen])]
    return errors(data, told, chosen) | {
        "classes": {name: errors(data, told, members) for name, members in classes(data, chosen).items()}
    }


def off_equilibrium_report(data: LabelledSet, told: NDArray[np.float64], part: Split = "test") -> dict[str, Any]:
    """Say whether compressed, hot and random cells are predicted to be as bad as they are.

    Parameters
    ----------
    data
        Crystals with known energies, some of them off equilibrium (their names may end with ``#KIND``).
    told
        Predicted formation energies, eV/atom, shape (len(data),).
    part
        The part that counts.

    Returns
    -------
    dict
        For all and for each kind: errors, Spearman's rank correlation of predicted and true energies, and, among
        those of at least 0.1 eV/atom above the lowest known structure of the same composition (``worse``), the share
        that is predicted above it, as the network predicts it (``told_worse``).
    """
    lowest = _lowest_by_composition(data)
    chosen = data.indices(part, off_equilibrium=True)
    chosen = chosen[np.isfinite(told[chosen])]
    kinds = np.array([data.names[k].rpartition("#")[2] for k in chosen])
    groups = {"all": chosen} | {str(kind): chosen[kinds == kind] for kind in np.unique(kinds) if len(kinds)}
    found: dict[str, Any] = {}
    for kind, members in groups.items():
        entry: dict[str, Any] = dict(errors(data, told, members))
        if len(members) > 2:
            entry["rank_correlation"] = round(float(spearmanr(told[members], data.energies[members]).statistic), 4)
        pairs = [(k, lowest[key]) for k in members if (key := data.composition[k].tobytes()) in lowest]
        worse = [(k, ground) for k, ground in pairs if data.energies[k] > data.energies[ground] + 0.1]
        entry["worse"] = len(worse)
        if worse:
            entry["told_worse"] = round(float(np.mean([told[k] > told[ground] for k, ground in worse])), 4)
        found[kind] = entry
    return found


def _lowest_by_composition(data: LabelledSet) -> dict[bytes, int]:
    """Return the crystal of lowest energy of each composition, among those in equilibrium."""
    lowest: dict[bytes, int] = {}
    for k in np.flatnonzero(~data.off_equilibrium & data.graphs.fine):
        key = data.composition[k].tobytes()
        if key not in lowest or data.energies[k] < data.energies[lowest[key]]:
            lowest[key] = int(k)
    return lowest
