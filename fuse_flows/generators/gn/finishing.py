"""From a trainer to a network on file: what is stored beside the weights, and the errors at the end."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

import fuse_flows
from fuse_flows.generators.gn.evaluation import off_equilibrium_report, report
from fuse_flows.generators.gn.network import Network
from fuse_flows.generators.gn.predicting import Predictor
from fuse_flows.generators.gn.storage import SavedNetwork

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.generators.gn.data import LabelledSet
    from fuse_flows.generators.gn.training import Trainer

#: An element counts as learnt from so many crystals on.
_ENOUGH = 5


def predictions(saved: SavedNetwork, data: LabelledSet, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return formation energies in eV/atom of some crystals, shape (len(data),); NaN for all others."""
    network = Network(saved.architecture)
    network.set_weights(saved.weights)
    told = np.full(len(data), np.nan)
    outputs = Predictor(network)(data.graphs, chosen)
    told[chosen] = saved.baseline.energies(data.composition[chosen], outputs)
    return told


def relevant(data: LabelledSet) -> NDArray[np.int64]:
    """Return the indices of all crystals that the report needs."""
    grounds = data.graphs.fine & ~data.off_equilibrium
    keys = {data.composition[k].tobytes() for k in data.indices("test", off_equilibrium=True)}
    wanted = np.array([row.tobytes() in keys for row in data.composition], dtype=bool)
    return np.union1d(data.indices("test", off_equilibrium=None), np.flatnonzero(grounds & wanted))


def finished(trainer: Trainer, provenance: dict[str, Any]) -> SavedNetwork:
    """Return what is stored of a trainer: the weights of its best epoch, and how they came about.

    Parameters
    ----------
    trainer
        In any state.
    provenance
        Data, licence, attribution.
    """
    data, plan, progress = trainer.data, trainer.plan, trainer.progress
    crystals = trainer.learnt[~data.off_equilibrium[trainer.learnt]]
    counts = (data.composition[trainer.learnt] > 0).sum(axis=0)
    symbols = tuple(chemical_symbols[z] for z in range(1, plan.architecture.elements) if counts[z] >= _ENOUGH)
    rules = {key: value for key, value in asdict(plan).items() if key not in {"architecture", "epochs", "hours"}}
    told = provenance | {
        "split": "by reduced composition (hash): 80 % training, 10 % validation, 10 % test"
        + ("; at the end the validation part was learnt, too" if plan.whole else ""),
        "crystals": {
            "training": len(crystals),
            "training, off equilibrium": len(trainer.learnt) - len(crystals),
            "validation": len(trainer.validation),
        },
        "plan": rules,
        "epochs": progress.epoch,
        "seconds": round(progress.elapsed),
        "complete": progress.done,
        "best_epoch": progress.best_epoch,
        "validation_mae": None if plan.whole else round(progress.best, 5),
        "curve": [[r["epoch"], r["loss"], r["mae"]] for r in progress.curve],
        "versions": {name: version(name) for name in ("tensorflow", "megnet", "numpy")}
        | {"fuse_flows": fuse_flows.__version__},
    }
    saved = SavedNetwork(plan.architecture, trainer.best_weights, trainer.baseline, symbols, told)
    chosen = relevant(data)
    energies = np.full(len(data), np.nan)
    energies[chosen] = trainer.energies(trainer.best_weights, chosen)
    told["evaluation"] = {"test": report(data, energies), "off_equilibrium": off_equilibrium_report(data, energies)}
    return saved
