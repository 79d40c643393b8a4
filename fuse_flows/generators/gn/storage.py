"""Saved networks: one file, without pickled objects, that says what is in it.

The file is a compressed ``.npz``: ``told`` (JSON: format, architecture, elements, provenance); ``slopes`` and ``scale``
(of :class:`~fuse_flows.generators.gn.baseline.Baseline`); ``weights/NAME`` (float32).
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from fuse_flows.errors import ConfigError, MissingExtraError
from fuse_flows.generators.gn.architecture import Architecture
from fuse_flows.generators.gn.baseline import Baseline

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIELD = "model_file"
FORMAT = 1
SHIPPED = "data/graph_network.npz"
_FIX = "make one with: fuse-flows gn train"


@dataclass(frozen=True)
class SavedNetwork:
    """What a file holds.

    Attributes
    ----------
    architecture
        Sizes of the network.
    weights
        By name, as in :meth:`Architecture.shapes`.
    baseline
        What composition alone says.
    symbols
        Elements the network has learnt.
    provenance
        Data, licence, split, errors, learning curve, versions.
    digest
        Of the file that was read, 12 hexadecimal digits; empty for what was not read.
    """

    architecture: Architecture
    weights: dict[str, NDArray[np.float32]]
    baseline: Baseline
    symbols: tuple[str, ...]
    provenance: dict[str, Any]
    digest: str = ""

    def save(self, path: Path | str) -> Path:
        """Write the network to one file and return its path (``.npz`` is added if it is not there)."""
        file = Path(path)
        file = file if file.suffix == ".npz" else file.with_name(file.name + ".npz")
        told = {
            "format": FORMAT,
            "architecture": asdict(self.architecture),
            "symbols": self.symbols,
            "provenance": self.provenance,
        }
        np.savez_compressed(
            file,
            told=np.array(json.dumps(told)),
            slopes=self.baseline.slopes,
            scale=np.array([self.baseline.mean, self.baseline.std]),
            **{f"weights/{name}": part for name, part in self.weights.items()},  # type: ignore[arg-type]
        )
        return file


def shipped_path() -> Path:
    """Return the file of the network that comes with the package."""
    return Path(str(resources.files("fuse_flows").joinpath(SHIPPED)))


def read_network(path: Path | str | None = None) -> SavedNetwork:
    """Read a network.

    Parameters
    ----------
    path
        A file written by ``fuse-flows gn train``, or a published model of MEGNet (``.hdf5``, with its ``.hdf5.json``
        beside it); None for the one that comes with the package.

    Returns
    -------
    SavedNetwork
        What it holds.

    Raises
    ------
    ConfigError
        If there is no such file, it is no network, or it has another version.
    MissingExtraError
        If a published model is to be read and h5py is not installed.
    """
    file = shipped_path() if path is None else Path(path)
    digest = network_digest(file)
    if file.suffix in {".hdf5", ".h5"}:
        return _published(file, digest)
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        told = json.loads(str(arrays["told"]))
        version = told["format"]
    except (OSError, KeyError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        # numpy would advise to load it unsafely
        reason = "it holds no arrays" if "pickle" in str(error) else repr(error)
        raise ConfigError(FIELD, f"{file} is no network ({reason}); {_FIX}") from error
    if version != FORMAT:
        raise ConfigError(FIELD, f"{file} has format {version}, this version of fuse-flows reads {FORMAT}; {_FIX}")
    try:
        architecture = Architecture.of(told["architecture"])
        weights = {name.removeprefix("weights/"): part for name, part in arrays.items() if name.startswith("weights/")}
        mean, std = arrays["scale"].tolist()
        baseline = Baseline(arrays["slopes"], mean, std)
        network = SavedNetwork(architecture, weights, baseline, tuple(told["symbols"]), told["provenance"], digest)
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(FIELD, f"{file} is no network ({error!r}); {_FIX}") from error
    _checked(file, network)
    return network


def network_digest(path: Path | str | None = None) -> str:
    """Return 12 hexadecimal digits that stand for the contents of a network's file.

    Parameters
    ----------
    path
        As of :func:`read_network`.

    Raises
    ------
    ConfigError
        If there is no such file.
    """
    file = shipped_path() if path is None else Path(path)
    if not file.is_file():
        raise ConfigError(FIELD, f"there is no file {file}; {_FIX}")
    digest = hashlib.sha256(file.read_bytes())
    beside = file.with_name(file.name + ".json")  # of a published model: what graphs it wants
    if file.suffix in {".hdf5", ".h5"} and beside.is_file():
        digest.update(beside.read_bytes())
    return digest.hexdigest()[:12]


def _published(file: Path, digest: str) -> SavedNetwork:
    try:
        from fuse_flows.generators.gn.published import read_published
    except ModuleNotFoundError as error:
        raise MissingExtraError("h5py", "gn") from error
    sizes, weights, metadata = read_published(file)
    scaler = metadata.pop("scaler")
    baseline = Baseline(np.zeros(len(chemical_symbols)), scaler["mean"], scaler["std"])
    architecture = Architecture.of(sizes)
    known = tuple(chemical_symbols[1 : architecture.elements])
    network = SavedNetwork(architecture, weights, baseline, known, {"published": metadata}, digest)
    _checked(file, network)
    return network


def _checked(file: Path, network: SavedNetwork) -> None:
    """Refuse weights of other shapes or without values, and elements that do not exist."""
    expected = network.architecture.shapes()
    for name, shape in expected.items():
        found = network.weights[name].shape if name in network.weights else None
        if found != shape:
            raise ConfigError(FIELD, f"{file} is no such network: {name} is {found} instead of {shape}; {_FIX}")
    undefined = [name for name in expected if not np.isfinite(network.weights[name]).all()]
    if undefined:
        raise ConfigError(FIELD, f"{file} is no network: {undefined[0]} has numbers that are not finite; {_FIX}")
    unknown = [symbol for symbol in network.symbols if symbol not in atomic_numbers]
    if unknown or network.baseline.slopes.shape != (len(chemical_symbols),):
        raise ConfigError(FIELD, f"{file} is no network: it has no valid list of elements; {_FIX}")
