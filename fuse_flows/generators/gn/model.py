"""The graph network as an energy model: formation energies of many unrelaxed cells at once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers

from fuse_flows.errors import ConfigError
from fuse_flows.generators.gn.data import composition_of
from fuse_flows.generators.gn.graphs import build_graphs
from fuse_flows.generators.gn.storage import FIELD, SavedNetwork, network_digest, read_network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fuse_flows.generators.base import Cell

__all__ = ["GraphNetwork", "load_network", "network_digest"]


class GraphNetwork:
    """A trained network (an :class:`~fuse_flows.generators.base.EnergyModel`).

    Parameters
    ----------
    saved
        What its file holds.
    """

    name = "gn"

    def __init__(self, saved: SavedNetwork) -> None:
        self.saved = saved
        self._known = frozenset(saved.symbols)

    @property
    def version(self) -> str:
        """Digest of the file."""
        return self.saved.digest

    @cached_property
    def _predictor(self) -> Any:
        """The compiled network; TensorFlow is loaded here."""
        from fuse_flows.generators.gn.network import Network
        from fuse_flows.generators.gn.predicting import Predictor

        network = Network(self.saved.architecture)
        network.set_weights(self.saved.weights)
        return Predictor(network)

    def check(self, symbols: Sequence[str]) -> None:
        """Refuse elements that the network has not learnt.

        Parameters
        ----------
        symbols
            Element symbols.

        Raises
        ------
        ConfigError
            Naming the elements.
        """
        unknown = sorted(set(symbols) - self._known)
        if unknown:
            message = f"the network knows no {', '.join(unknown)}; give a model_file that does, or another energy_model"
            raise ConfigError(FIELD, message)

    def energies(self, cells: Sequence[Cell]) -> NDArray[np.float64]:
        """Predict formation energies.

        Parameters
        ----------
        cells
            Any number of cells, of any size.

        Returns
        -------
        numpy.ndarray
            Formation energies in eV/atom, shape (len(cells),); NaN where an atom has no neighbour within the cut-off,
            the cell is collapsed, or an element is unknown.
        """
        told = np.full(len(cells), np.nan)
        if not len(cells):
            return told
        graphs = build_graphs(cells, cutoff=self.saved.architecture.cutoff)
        known = np.zeros(len(self.saved.baseline.slopes), dtype=bool)
        known[[atomic_numbers[symbol] for symbol in self._known]] = True
        fine = np.flatnonzero([ok and known[cell.numbers].all() for ok, cell in zip(graphs.fine, cells, strict=True)])
        if len(fine):
            outputs = self._predictor(graphs, fine)
            composition = np.stack([composition_of(cells[k].numbers) for k in fine.tolist()])
            told[fine] = self.saved.baseline.energies(composition, outputs)
        return told


def load_network(path: Path | str | None = None) -> GraphNetwork:
    """Load a network.

    Parameters
    ----------
    path
        A file written by ``fuse-flows gn train``, or a published model of MEGNet (``.hdf5`` with its ``.hdf5.json``);
        None for the one that comes with the package.

    Returns
    -------
    GraphNetwork
        The energy model.

    Raises
    ------
    ConfigError
        If there is no such file, it is no network, or it has another version.
    MissingExtraError
        If TensorFlow or megnet is not installed.
    """
    from fuse_flows.generators.gn import backend  # noqa: F401 - says now rather than later that an extra is missing

    return GraphNetwork(read_network(path))
