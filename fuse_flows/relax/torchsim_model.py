"""Any model of torch-sim as an ASE calculator that computes many crystals at once."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from functools import reduce
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch_sim.io import atoms_to_state
from torch_sim.models.interface import ModelInterface

from fuse_flows.errors import ConfigError
from fuse_flows.relax.cell import Numbers
from fuse_flows.relax.result import one_line
from fuse_flows.relax.torchsim import FIELD, TorchSimOptions, torchsim_options, weights_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ase import Atoms

#: Memory for an atom, bytes, until the first batch tells; more than large MACE models take in double precision.
BYTES_PER_ATOM = 20_000_000
#: Atoms in one batch on a CPU, where batches serve tests and benchmarks only.
CPU_BATCH = 400

#: Where models keep how far they see, A, and which atomic numbers they know (a list or the keys of a dictionary).
_CUTOFFS = ("cutoff", "r_max", "two_body_cutoff", "system_config.radius")
_SPECIES = ("z_table.zs", "model.type_map")
#: What this calculator decides.
_OURS = frozenset({"model", "device", "dtype", "compute_forces", "compute_stress"})
#: And what is decided already: without a list of neighbours, pair potentials see nearest images only.
_FIXED = frozenset({"use_neighbor_list", "neighbor_list_fn"})

#: Pair potentials. In torch-sim 0.3.0 their forces and stresses are twice the derivatives of their energies: each pair
#: is in the list in both directions.
_PAIR_MODELS = frozenset(f"torch_sim.models.{name}" for name in ("lennard_jones", "morse", "soft_sphere"))


class TorchSimCalculator(Calculator):
    """Energy (eV), forces (eV/A) and stress (eV/A^3) of a model of torch-sim.

    Parameters
    ----------
    **kwargs
        See :class:`fuse_flows.relax.torchsim.TorchSimOptions`.

    Raises
    ------
    ConfigError
        If a keyword is wrong, or a package, the weights or the device is not to be had.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]
    package = "torch-sim-atomistic"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        options = torchsim_options(kwargs)
        self.model = build_model(options)
        self.device = options.device
        self._is_pair_model = any(base.__module__ in _PAIR_MODELS for base in type(self.model).__mro__)
        self._factor = 0.5 if self._is_pair_model and version(self.package).startswith("0.3.") else 1.0
        self._measured = 0.0  # bytes per atom

    @property
    def cutoff(self) -> float | None:
        """Radius beyond which the model sees no neighbour, A; None if it does not tell."""
        found = _first(self.model, _CUTOFFS)
        return None if found is None else float(found)

    @property
    def species(self) -> frozenset[int] | None:
        """Atomic numbers that the model knows; None if it does not tell, or takes all elements for one."""
        found = _first(self.model, _SPECIES)
        if found is None:
            most = _first(self.model, ("model.model.max_z",))  # MatterSim
            return None if most is None else frozenset(range(1, int(most) + 1))
        return frozenset(int(number) for number in found)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute all properties at once; see :class:`ase.calculators.calculator.Calculator`."""
        super().calculate(atoms, properties, system_changes)
        (numbers,) = self.compute_many([self.atoms])
        self.results = {"energy": numbers.energy, "free_energy": numbers.energy, "forces": numbers.forces}
        if numbers.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(numbers.stress)

    def compute_many(self, crystals: Sequence[Atoms]) -> list[Numbers]:
        """Compute many crystals with one call of the model.

        Parameters
        ----------
        crystals
            Periodic crystals.

        Returns
        -------
        list of Numbers
            Of each, in order.
        """
        turned, rotations = zip(*(_turned(atoms, symmetric=self._is_pair_model) for atoms in crystals), strict=True)
        state = atoms_to_state(list(turned), self.model.device, self.model.dtype)
        if hasattr(self.model, "setup_from_system_idx"):
            # MACE's wrapper (0.3.0) takes a batch with the same elements in a row for the batch before, also where its
            # crystals end elsewhere, and fails.
            self.model.setup_from_system_idx(state.atomic_numbers, state.system_idx)
        with self._weighed(len(state.positions)):
            found = self.model(state)
        energies = _array(found["energy"]).reshape(-1)
        forces = self._factor * _array(found["forces"]).reshape(-1, 3)  # models squeeze: one atom, one crystal
        stresses = self._factor * _array(found["stress"]).reshape(-1, 3, 3) if "stress" in found else None
        numbers, first = [], 0
        for k, (atoms, rotation) in enumerate(zip(crystals, rotations, strict=True)):
            own = forces[first : first + len(atoms)] @ rotation
            stress = None if stresses is None else rotation.T @ stresses[k] @ rotation
            numbers.append(Numbers(float(energies[k]), own, None if stress is None else 0.5 * (stress + stress.T)))
            first += len(atoms)
        return numbers

    def batch_capacity(self) -> int:
        """Return the number of atoms for one batch: what fits into three quarters of the free memory of the GPU.

        The need of an atom is that of the greediest batch so far; a batch may still turn out too large.
        """
        if self.model.device.type != "cuda":
            return CPU_BATCH
        free, _ = torch.cuda.mem_get_info(self.model.device)
        unused = torch.cuda.memory_reserved(self.model.device) - torch.cuda.memory_allocated(self.model.device)
        return max(1, int(0.75 * (free + unused) / (self._measured or BYTES_PER_ATOM)))

    @contextlib.contextmanager
    def _weighed(self, n_atoms: int) -> Iterator[None]:
        """Note how much memory a batch takes."""
        device = self.model.device
        if device.type != "cuda":
            yield
            return
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield
        self._measured = max(self._measured, (torch.cuda.max_memory_allocated(device) - before) / n_atoms)


def build_model(options: TorchSimOptions) -> ModelInterface:
    """Make a model, with frozen parameters.

    Parameters
    ----------
    options
        Which one.

    Returns
    -------
    torch_sim.models.interface.ModelInterface
        The model, in evaluation mode.

    Raises
    ------
    ConfigError
        Naming the field and the fix.
    """
    kind = _class_of(options)
    _require_device(options.device)
    accepted = set(inspect.signature(kind).parameters)
    unknown = set(options.keywords) - (accepted - _OURS - _FIXED)
    if options.dtype is not None and "dtype" not in accepted:
        unknown.add("dtype")
    if unknown:
        known = ", ".join(sorted(accepted - _OURS - _FIXED)) or "none"
        raise ConfigError(FIELD, f"{options.model} does not know {', '.join(sorted(unknown))}; its own are: {known}")
    has_weights = "model" in accepted
    if has_weights != (options.weights is not None):
        fix = "needs the weights of a model: a file, or a name that its package knows" if has_weights else "has none"
        raise ConfigError(f"{FIELD}.weights", f"{options.model} {fix}")
    dtype = options.dtype or options.source.dtype
    ours = {"device": torch.device(options.device), "compute_forces": True, "compute_stress": True}
    ours |= {} if dtype is None else {"dtype": getattr(torch, dtype)}
    try:
        with warnings.catch_warnings():  # of how old files are read, and the like
            warnings.simplefilter("ignore")
            ours |= {"model": _raw_model(options, dtype)} if has_weights else {}
            model = kind(**options.keywords, **{key: value for key, value in ours.items() if key in accepted})
    except ConfigError:
        raise
    except Exception as error:
        field = f"{FIELD}.weights" if has_weights else FIELD
        what = options.model if options.weights is None else f"{options.model} with {options.weights!r}"
        raise ConfigError(field, f"{what} cannot be made: {one_line(str(error) or type(error).__name__)}") from error
    if model.device.type != torch.device(options.device).type:
        msg = f"{options.model} went to {model.device} in place of {options.device}; name that one"
        raise ConfigError(f"{FIELD}.device", msg)
    return model.eval().requires_grad_(requires_grad=False)


def _class_of(options: TorchSimOptions) -> Any:
    """Import the class of a model."""
    field, source = f"{FIELD}.model", options.source
    if source.module and find_spec(source.module) is None:
        msg = f"{options.model} needs the package {source.package}; run: pip install {source.package}"
        raise ConfigError(field, msg)
    module, _, name = source.path.partition(":")
    try:
        with warnings.catch_warnings():  # its modules, and what they import, remark on much
            warnings.simplefilter("ignore")
            kind = getattr(import_module(module), name)
    except Exception as error:
        raise ConfigError(field, f"{source.path} cannot be imported: {one_line(str(error))}") from error
    if not (isinstance(kind, type) and issubclass(kind, ModelInterface)):  # a path may come from anybody's document
        raise ConfigError(field, f"{source.path} is no class of torch-sim models (ModelInterface)")
    return kind


def _require_device(name: str) -> None:
    """Refuse a device that this machine does not have."""
    device = torch.device(name)
    count = torch.cuda.device_count() if device.type == "cuda" else int(torch.backends.mps.is_available())
    if device.type != "cpu" and (device.index or 0) >= count:
        msg = f"{name} is not to be had here; use cpu, or, on a machine that only submits, "
        raise ConfigError(f"{FIELD}.device", f"{msg}set FUSE_FLOWS_TORCHSIM_ELSEWHERE=true")


def _raw_model(options: TorchSimOptions, dtype: str | None) -> Any:
    """Return what the class of a learned model takes: the model of its own package, else the path or name."""
    weights = str(options.weights)
    file = Path(weights).expanduser()
    if options.digest is not None and (not file.is_file() or weights_digest(file) != options.digest):
        msg = f"{weights} has changed since the search was submitted, or is not on this machine"
        raise ConfigError(f"{FIELD}.weights", msg)
    weights = str(file) if file.is_file() else weights
    if options.model == "mace":
        from mace.calculators.foundations_models import mace_mp

        return mace_mp(model=weights, device=options.device, default_dtype=dtype, return_raw_model=True)
    if options.model == "sevennet":
        from sevenn.util import load_checkpoint

        return load_checkpoint(weights).build_model("e3nn")
    if options.model == "mattersim":
        from mattersim.forcefield import Potential

        return Potential.from_checkpoint(weights, device=options.device, load_training_state=False)
    if options.model == "orb":
        from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS

        if weights not in ORB_PRETRAINED_MODELS:
            raise ConfigError(f"{FIELD}.weights", f"orb knows {', '.join(ORB_PRETRAINED_MODELS)}, not {weights!r}")
        precision = "float64" if dtype == "float64" else "float32-highest"
        return ORB_PRETRAINED_MODELS[weights](device=options.device, precision=precision, compile=False)
    return weights


def _turned(atoms: Atoms, *, symmetric: bool) -> tuple[Atoms, np.ndarray]:
    """Return a crystal as a model likes it, and the rotation (or inversion) that led there, x' = rotation x.

    The volume of a left-handed cell is negative to some models, and some lose atoms outside the cell. Pair potentials
    of torch-sim 0.3.0 add lattice vectors of the transposed cell, which does no harm where it is symmetric.
    """
    from ase import Atoms

    cell = atoms.cell.array
    if symmetric:
        left, _, right = np.linalg.svd(cell)
        rotation = left @ right
    else:
        rotation = np.eye(3) * (-1 if np.linalg.det(cell) < 0 else 1)
    fractions = atoms.get_scaled_positions()
    return Atoms(atoms.numbers, cell=cell @ rotation.T, scaled_positions=fractions, pbc=True), rotation


def _first(model: Any, paths: Sequence[str]) -> Any:
    """Return the first attribute that there is; None without."""
    for path in paths:
        with contextlib.suppress(AttributeError):
            return reduce(getattr, path.split("."), model)
    return None


def _array(values: torch.Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
