"""Training: epochs over packed batches, a falling learning rate, checkpoints, early stopping."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.errors import ConfigError
from fuse_flows.generators.gn.architecture import Architecture
from fuse_flows.generators.gn.baseline import Baseline, fit_baseline
from fuse_flows.generators.gn.network import Network
from fuse_flows.generators.gn.packing import Room, filled, pack
from fuse_flows.generators.gn.predicting import Predictor
from fuse_flows.generators.gn.steps import Optimiser, Rules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from fuse_flows.generators.gn.data import LabelledSet

CHECKPOINT = "checkpoint.npz"
#: A smaller change of the validation error, eV/atom, is no progress.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Plan:
    """How a network is trained.

    Attributes
    ----------
    epochs
        Length of the schedule; training in so many epochs can be repeated bit for bit.
    hours
        Instead of ``epochs``: length of the schedule on the clock.
    seed
        Of the first weights and of the order of the crystals.
    rate
        Highest learning rate; it rises over the first ``warm_up`` of the schedule and falls to zero as a cosine.
    flat
        The rate stays at its highest: to go on from a trained network, whose running mean becomes better by it than
        the end of any schedule (Izmailov et al., arXiv:1803.05407).
    whole
        Learn the validation part, too. Then nothing chooses the epoch, and the last weights are kept.
    warm_up
        Share of the schedule.
    patience
        Stop after so many epochs without a better error on the validation part.
    edges
        Larger graphs are not learnt.
    typical_edges
        A graph with more edges than this is left out of so many epochs that on average it costs no more than this.
    room
        Shape of the batches.
    rules
        How weights follow gradients.
    architecture
        Of the network.
    compiled
        Compile with XLA; see :class:`~fuse_flows.generators.gn.steps.Optimiser`.
    """

    epochs: int = 100
    hours: float | None = None
    seed: int = 0
    rate: float = 1.5e-3
    flat: bool = False
    whole: bool = False
    warm_up: float = 0.02
    patience: int = 40
    edges: int = 2000
    typical_edges: int = 150
    room: Room = field(default_factory=Room)
    rules: Rules = field(default_factory=Rules)
    architecture: Architecture = field(default_factory=Architecture)
    compiled: bool = True

    def rate_at(self, progress: float) -> float:
        """Return the learning rate after a share of the schedule."""
        if progress < self.warm_up:
            return self.rate * progress / self.warm_up
        if self.flat:
            return self.rate
        return self.rate * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


@dataclass
class Progress:
    """How far training has come.

    Attributes
    ----------
    epoch
        Epochs done.
    elapsed
        Seconds of training so far, all sittings together.
    best
        Least error on the validation part, eV/atom.
    best_epoch
        When it was reached; with ``whole`` the last one.
    curve
        One record per epoch: epoch, loss, validation error (eV/atom; None where it was learnt), seconds, learning rate.
    done
        Whether the schedule is at its end or training was stopped early.
    """

    epoch: int = 0
    elapsed: float = 0.0
    best: float = math.inf
    best_epoch: int = 0
    curve: list[dict[str, float | None]] = field(default_factory=list)
    done: bool = False


class Trainer:
    """A network in training.

    Parameters
    ----------
    data
        The crystals; their training part is learnt, their validation part decides which weights are kept, or is learnt.
    plan
        How.
    folder
        Where checkpoints go; None: nowhere.
    """

    def __init__(self, data: LabelledSet, plan: Plan, folder: Path | None = None) -> None:
        self.data, self.plan, self.folder = data, plan, folder
        edges = min(plan.edges, plan.room.edges - 1)
        self.learnt = data.indices("train", off_equilibrium=None, edges=edges)
        self.validation = data.indices("tune", edges=plan.edges)
        crystals = self.learnt[~data.off_equilibrium[self.learnt]]
        if not len(crystals) or not len(self.validation):
            raise ConfigError("data", "no crystal is left for training or for validation; give more data")
        if plan.whole:
            tune = data.indices("tune", off_equilibrium=None, edges=edges)
            self.learnt, self.validation = np.union1d(self.learnt, tune), self.validation[:0]
        self.baseline = fit_baseline(data.composition[crystals], data.energies[crystals])
        self.targets = self.baseline.targets(data.composition, data.energies)
        self.network = Network(plan.architecture, plan.seed)
        self.optimiser = Optimiser(self.network, plan.rules, plan.room, compiled=plan.compiled)
        self.progress = Progress()
        self.best_weights = self.network.weights()
        self._shadow = Network(plan.architecture, plan.seed)
        self._predictor = Predictor(self._shadow)
        self._start = 0.0

    def _share(self, within: float) -> float:
        """Return the share of the schedule that is done, ``within`` the present epoch."""
        if self.plan.hours is not None:
            return (self.progress.elapsed + time.monotonic() - self._start) / (3600.0 * self.plan.hours)
        return (self.progress.epoch + within) / self.plan.epochs

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the crystals of one epoch in the order in which they are seen."""
        rng = np.random.default_rng([self.plan.seed, epoch])
        kept = rng.random(len(self.learnt)) * self.data.graphs.sizes[self.learnt] < self.plan.typical_edges
        return rng.permutation(self.learnt[kept])

    def run(self, report: Callable[[dict[str, float | None]], None] | None = None) -> None:
        """Train until the schedule ends or the validation error falls no more.

        Parameters
        ----------
        report
            Called with a record of the curve after each epoch.
        """
        while not self.progress.done:
            record = self._epoch()
            if report is not None:
                report(record)
            if self.folder is not None:
                self.save(self.folder / CHECKPOINT)

    def _epoch(self) -> dict[str, float | None]:
        """Train for one epoch, and evaluate."""
        plan, room = self.plan, self.plan.room
        self._start = time.monotonic()
        batches = pack(self.data.graphs, self.order(self.progress.epoch), room)
        losses = []
        for k, chosen in enumerate(batches):
            share = self._share(k / len(batches))
            if share >= 1.0:
                break
            targets, shares = np.zeros(room.graphs, np.float32), np.zeros(room.graphs, np.float32)
            targets[: len(chosen)], shares[: len(chosen)] = self.targets[chosen], self.data.weights[chosen]
            batch = filled(self.data.graphs.batch(chosen), room)
            losses.append(self.optimiser.step(batch, targets, shares, plan.rate_at(share)))
        weights = self.optimiser.mean_weights()
        error = self._validation_error(weights)
        seconds = time.monotonic() - self._start
        progress = self.progress
        progress.epoch += 1
        progress.elapsed += seconds
        record: dict[str, float | None] = {
            "epoch": progress.epoch,
            "loss": round(float(np.mean(losses)) if losses else math.nan, 6),
            "mae": None if plan.whole else round(error, 6),
            "seconds": round(seconds, 2),
            "rate": round(plan.rate_at(self._share_done()), 8),
        }
        progress.curve.append(record)
        if plan.whole or error < progress.best - _ROUNDING:
            progress.best, progress.best_epoch = min(error, progress.best), progress.epoch
            self.best_weights = weights
        late = progress.epoch - progress.best_epoch >= plan.patience
        progress.done = bool(self._share_done() >= 1.0 or late)
        return record

    def _validation_error(self, weights: dict[str, NDArray[np.float32]]) -> float:
        """Return the mean absolute error in eV/atom; infinite if the validation part is learnt."""
        if self.plan.whole:
            return math.inf
        told = self.energies(weights, self.validation)
        return float(np.abs(told - self.data.energies[self.validation]).mean())

    def energies(self, weights: dict[str, NDArray[np.float32]], chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the formation energies (eV/atom) that some weights predict for some crystals of the data."""
        self._shadow.set_weights(weights)
        return self.baseline.energies(self.data.composition[chosen], self._predictor(self.data.graphs, chosen))

    def _share_done(self) -> float:
        plan, progress = self.plan, self.progress
        return progress.elapsed / (3600.0 * plan.hours) if plan.hours is not None else progress.epoch / plan.epochs

    def save(self, path: Path) -> None:
        """Write a checkpoint; one that is there is replaced in one go.

        Parameters
        ----------
        path
            Where to.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {f"state/{name}": part for name, part in self.optimiser.state().items()}
        arrays |= {f"best/{name}": part for name, part in self.best_weights.items()}
        arrays |= {"slopes": self.baseline.slopes, "scale": np.array([self.baseline.mean, self.baseline.std])}
        told = {"progress": asdict(self.progress), "plan": asdict(self.plan)}
        half = path.with_suffix(".part")
        with half.open("wb") as file:
            np.savez(file, told=np.array(json.dumps(told)), **arrays)
        os.replace(half, path)  # noqa: PTH105 - it replaces in one go

    def load(self, path: Path) -> None:
        """Go on from a checkpoint; the length of the schedule may be another than before.

        Parameters
        ----------
        path
            Where it is.

        Raises
        ------
        ConfigError
            If there is none, or it belongs to another architecture or other data.
        """
        told, arrays = read_checkpoint(path)
        if told["plan"]["architecture"] != json.loads(json.dumps(asdict(self.plan.architecture))):
            raise ConfigError("resume", f"{path} belongs to another architecture; start anew")
        if not np.allclose(arrays["slopes"], self.baseline.slopes, atol=1e-9):
            raise ConfigError("resume", f"{path} was trained on other data; give the same files, or start anew")
        self.baseline = baseline_of(arrays)
        self.optimiser.set_state(_under("state/", arrays))
        self.best_weights = _under("best/", arrays)
        self.progress = Progress(**told["progress"])
        self.progress.done = self._share_done() >= 1.0


def _under(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): part for name, part in arrays.items() if name.startswith(prefix)}


def baseline_of(arrays: dict[str, NDArray[np.float64]]) -> Baseline:
    """Return the baseline of a checkpoint."""
    mean, std = arrays["scale"].tolist()
    return Baseline(arrays["slopes"], mean, std)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint.

    Parameters
    ----------
    path
        Where it is.

    Returns
    -------
    told, arrays
        Its plan and progress; its arrays by name.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        return json.loads(str(arrays.pop("told"))), arrays
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError("resume", f"{path} is no checkpoint ({error}); leave --resume out to start anew") from error
