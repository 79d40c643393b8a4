"""The format of MEGNet's published models: ``NAME.hdf5`` (weights) beside ``NAME.hdf5.json`` (graphs, metadata)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_PARTS = ("atom", "bond", "state")


def read_published(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Read a published model.

    Parameters
    ----------
    path
        The ``.hdf5`` file; the ``.hdf5.json`` file lies beside it.

    Returns
    -------
    sizes, weights, metadata
        Keywords of :class:`~fuse_flows.generators.gn.network.Architecture`; weights by our names; what the JSON
        file says of the model.

    Raises
    ------
    ConfigError
        If a file is missing or holds something else than a MEGNet model of crystals with three inputs.
    """
    beside = path.with_name(path.name + ".json")
    if not beside.is_file():
        raise ConfigError("model_file", f"{path.name} needs its {beside.name} (graphs and metadata) beside it")
    try:
        described = json.loads(beside.read_text(encoding="utf-8"))
        converter = described["graph_converter"]
        bonds = converter["bond_converter"]
        centres = np.asarray(bonds["centers"]["data"] if isinstance(bonds["centers"], dict) else bonds["centers"])
        with h5py.File(path) as file:
            config = file.attrs["model_config"]
            layers = json.loads(config)["config"]["layers"]
            weights = _translated(layers, file["model_weights"])
        sizes = {
            "cutoff": float(converter["cutoff"]),
            "centres": len(centres),
            "furthest": float(centres[-1]),
            "width": float(bonds["width"]),
            "elements": weights["embedding"].shape[0],
            "embedding": weights["embedding"].shape[1],
            "blocks": sum(layer["class_name"] == "MEGNetLayer" for layer in layers),
            "units": (*weights["pre0_atom_kernel1"].shape, weights["last_kernel1"].shape[1]),
            "passes": next(layer["config"]["T"] for layer in layers if layer["class_name"] == "Set2Set"),
            "state": weights["pre0_state_kernel0"].shape[0],
        }
        even = np.allclose(centres, np.linspace(0.0, centres[-1], len(centres)))
    except (OSError, ValueError, KeyError, TypeError, IndexError, StopIteration) as error:
        raise ConfigError("model_file", f"{path} is no MEGNet model of crystals ({error!r})") from error
    if not even:
        raise ConfigError(
            "model_file", f"the Gaussians of {beside.name} are not evenly spaced from 0; use another model"
        )
    scaler = described.get("target_scaler") or {}
    metadata = dict(described.get("metadata", {}))
    metadata["scaler"] = {"mean": float(scaler.get("mean", 0.0)), "std": float(scaler.get("std", 1.0))}
    metadata["extensive"] = not bool(scaler.get("is_intensive", True))
    return sizes, weights, metadata


def _translated(layers: list[dict[str, Any]], stored: Any) -> dict[str, NDArray[np.float32]]:
    """Return the weights by our names: layers are known by their kind and by what they are connected to."""
    kinds = {layer["config"]["name"]: layer["class_name"] for layer in layers}
    sources = {
        layer["config"]["name"]: [link[0] for link in layer["inbound_nodes"][0]]
        for layer in layers
        if layer["inbound_nodes"]
    }
    named = {name: _arrays(stored[name]) for name in kinds if name in stored}
    weights: dict[str, NDArray[np.float32]] = {}

    def stack(name: str, ours: str, *, upwards: int | None = None) -> None:
        """Name a chain of dense layers that ends with ``name``."""
        chain: list[str] = []
        while kinds[name] == "Dense" and (upwards is None or len(chain) < upwards):
            chain.insert(0, name)
            name = sources[name][0]
        for depth, link in enumerate(chain):
            weights[f"{ours}_kernel{depth}"] = named[link]["kernel"]
            weights[f"{ours}_bias{depth}"] = named[link]["bias"]

    weights["embedding"] = next(named[name]["embeddings"] for name, kind in kinds.items() if kind == "Embedding")
    blocks = [name for name, kind in kinds.items() if kind == "MEGNetLayer"]
    for k, block in enumerate(blocks):
        for part, source in zip(_PARTS, sources[block][:3], strict=True):
            stack(source, f"pre{k}_{part}")
        for array, values in named[block].items():
            kind, part, depth = array.split("_")
            weights[f"block{k}_{part}_{'kernel' if kind == 'weight' else 'bias'}{depth}"] = values
    readers = [name for name, kind in kinds.items() if kind == "Set2Set"]
    for part, reader in zip(_PARTS[:2], readers, strict=True):
        for array, values in named[reader].items():
            ours = {"x_to_m_weight": "m_weight", "x_to_m_bias": "m_bias"}.get(array, array)
            weights[f"read_{part}_{ours}"] = values
    inner = {source for linked in sources.values() for source in linked}
    stack(next(name for name, kind in kinds.items() if kind == "Dense" and name not in inner), "last")
    return weights


def _arrays(group: Any) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of a layer by their own names, without scopes and numbers of outputs."""
    found: dict[str, NDArray[np.float32]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name.rpartition("/")[2].partition(":")[0]] = np.asarray(item, dtype=np.float32)

    group.visititems(visit)
    return found
