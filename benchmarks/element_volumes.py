"""Make fuse_flows/data/element_volumes.json: the volume an atom of each element takes in the crystals of a database.

    python benchmarks/element_volumes.py STRUCTURES.jsonl.xz

Each line of the file is a crystal with ``species`` and ``vol_per_atom`` (A^3), as in the Materials Project extract of
F.-X. Coudert (chemrxiv-2024-gsk41). Volumes are fitted as a sum over the atoms, with relative errors, non-negative
(the least-squares method of Lawson and Hanson) and robustly: crystals that are off by more than 5 % count less the
further they are off, and gases and broken records not at all. An element has two volumes: in crystals with a strong
anion and in all others. The table ends with the share of crystals that a window around the estimate holds.
"""

from __future__ import annotations

import json
import lzma
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

ANIONS = ("N", "O", "F", "S", "Cl", "Se", "Br", "I")
FEWEST = 15
"""Crystals an element must occur in to have a volume of its own in one of the two columns."""

ROUNDS = 10
KNEE = 0.05
BROKEN = 3.0
"""Crystals this many times larger than estimated have atoms that are no neighbours: gases, slabs, broken records."""

TABLE = Path(__file__).parents[1] / "fuse_flows" / "data" / "element_volumes.json"
ABOUT = {
    "columns": "volume of an atom (A^3) in crystals with one of the anions, and in all others; null: too few crystals",
    "anions": list(ANIONS),
    "source": "Least squares over the crystals of the Materials Project (2025.02), CC-BY-4.0, A. Jain et al., "
    "APL Mater. 1, 011002 (2013), in the extract of F.-X. Coudert, chemrxiv-2024-gsk41 (CC-BY-4.0).",
    "made_by": "benchmarks/element_volumes.py",
}


def read(path: str) -> tuple[list[Counter[str]], np.ndarray]:
    """Return the atoms of each crystal and its volume per atom, A^3."""
    with lzma.open(path, "rt") as lines:
        records = [json.loads(line) for line in lines]
    return [Counter(record["species"]) for record in records], np.array([r["vol_per_atom"] for r in records])


def fit(shares: np.ndarray, volumes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit volumes of the columns, iteratively reweighted; return them and true over estimated volumes."""
    weights = np.ones(len(volumes))
    fitted, ratio = np.zeros(shares.shape[1]), np.ones(len(volumes))
    for _ in range(ROUNDS):
        fitted, _ = nnls(shares * (weights / volumes)[:, None], weights, maxiter=100 * shares.shape[1])
        ratio = volumes / np.maximum(shares @ fitted, 1e-9)
        error = np.maximum(abs(1 / ratio - 1), KNEE)
        weights = np.where(ratio < BROKEN, np.sqrt(KNEE / error), 0.0)
    return fitted, ratio


def main() -> None:
    atoms, volumes = read(sys.argv[1])
    elements = sorted({element for crystal in atoms for element in crystal})
    place = {element: i for i, element in enumerate(elements)}
    shares = np.zeros((len(atoms), 2 * len(elements)))
    for row, crystal in zip(shares, atoms, strict=True):
        offset = 0 if crystal.keys() & set(ANIONS) else len(elements)
        for element, count in crystal.items():
            row[offset + place[element]] = count / crystal.total()
    fitted, ratio = fit(shares, volumes)
    sane = ratio < BROKEN
    enough = (shares[sane] > 0).sum(axis=0) >= FEWEST
    known: list[float | None] = [
        round(float(v), 2) if ok and v > 0 else None for v, ok in zip(fitted, enough, strict=True)
    ]
    columns = {el: [known[i], known[i + len(elements)]] for i, el in enumerate(elements)}
    about: dict[str, Any] = ABOUT | {"crystals": int(sane.sum())}
    rows = ",\n".join(f"  {json.dumps(el)}: {json.dumps(values)}" for el, values in columns.items() if any(values))
    TABLE.write_text(f'{{\n "about": {json.dumps(about, indent=2)},\n "volumes": {{\n{rows}\n }}\n}}\n')
    print(f"{len(volumes)} crystals, {(~sane).sum()} left out; {len(columns)} elements")
    quantiles = (0.001, 0.005, 0.01, 0.05, 0.5, 0.95, 0.99, 0.995, 0.999)
    print(
        "true over estimated:", dict(zip(quantiles, np.quantile(ratio[sane], quantiles).round(3).tolist(), strict=True))
    )
    for low, high in ((0.6, 1.8), (0.55, 2.0), (0.5, 2.2), (0.5, 2.5)):
        print(f"within {low} ... {high}: {np.mean((ratio[sane] > low) & (ratio[sane] < high)):.4f}")


if __name__ == "__main__":
    main()
