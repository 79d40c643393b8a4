"""CHGNet as an ASE calculator for relaxations: energy, forces and stress from a single backward pass.

The calculator of the chgnet package asks for forces and stress one after the other and keeps the graph for training.
A relaxation needs one gradient with respect to positions and strain, which costs a little over half as much and gives
the same numbers to single precision. CHGNet: Deng et al., Nat. Mach. Intell. 5, 1031 (2023).
"""

from __future__ import annotations

import contextlib
import io
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from chgnet.model import CHGNet
from chgnet.model.model import BatchedGraph
from pymatgen.core import Lattice, Structure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from ase import Atoms

    from fuse_flows.relax.cell import Numbers

#: Memory for the two passes of an atom of a dense oxide, bytes: twice what was measured on a CPU.
BYTES_PER_ATOM = 4_000_000
#: Atoms in one batch on a CPU, where batches serve tests only.
CPU_BATCH = 400


class ChgnetCalculator(Calculator):
    """Energy (eV), forces (eV/A) and stress (eV/A^3) of CHGNet.

    An atom without neighbours inside the model's cut-off is an error here, because CHGNet returns finite but
    meaningless numbers for it; :mod:`fuse_flows.relax.guards` finds such atoms before they come this far.

    Parameters
    ----------
    model_name
        Pretrained model of the chgnet package: ``0.3.0``, ``0.2.0`` or ``r2scan``.
    use_device
        ``cpu``, ``cuda`` or ``mps``.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]
    package = "chgnet"

    def __init__(self, model_name: str = "0.3.0", use_device: str = "cpu") -> None:
        super().__init__()
        self.model = load_model(model_name, use_device)
        self.device = use_device

    @property
    def cutoff(self) -> float:
        """Radius of the atom graph, A."""
        return float(self.model.graph_converter.atom_graph_cutoff)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute all properties at once; see :class:`ase.calculators.calculator.Calculator`."""
        super().calculate(atoms, properties, system_changes)
        energy, forces, stress = _energy_forces_stress(self.model, _structure_of(self.atoms), self.device)
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": forces,
            "stress": full_3x3_to_voigt_6_stress(stress),
        }

    def compute_many(self, crystals: Sequence[Atoms]) -> list[Numbers]:
        """Compute many crystals with one forward and one backward pass, to single precision as one by one.

        Parameters
        ----------
        crystals
            Periodic crystals.

        Returns
        -------
        list of Numbers
            Of each, in order.
        """
        from fuse_flows.relax.chgnet_batch import compute_graphs

        graphs = [self.model.graph_converter(_structure_of(atoms)) for atoms in crystals]
        return compute_graphs(self.model, graphs, self.device)

    def batch_capacity(self) -> int:
        """Return the number of atoms for one batch: what fits into three quarters of the free memory of the GPU.

        The need of an atom grows with its neighbours, so a batch may still turn out too large.
        """
        if not self.device.startswith("cuda"):
            return CPU_BATCH
        free, _ = torch.cuda.mem_get_info(self.device)
        return max(1, int(0.75 * free / BYTES_PER_ATOM))


@cache
def load_model(model_name: str, use_device: str) -> Any:
    """Load a pretrained CHGNet, once per process, with frozen parameters and nothing written to stdout.

    Parameters
    ----------
    model_name
        Pretrained model of the chgnet package.
    use_device
        ``cpu``, ``cuda`` or ``mps``.

    Returns
    -------
    chgnet.model.CHGNet
        The model, in evaluation mode.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        model = CHGNet.load(model_name=model_name, use_device=use_device, verbose=False)
    model.eval()
    model.graph_converter.set_isolated_atom_response("error")
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=False)
    with warnings.catch_warnings():  # torch remarks once per process on how the package computes volumes
        warnings.simplefilter("ignore")
        _energy_forces_stress(model, Structure(Lattice.cubic(3.0), ["H"], [[0, 0, 0]]), use_device)
    return model


def _structure_of(atoms: Atoms) -> Structure:
    return Structure(Lattice(atoms.cell.array), atoms.numbers, atoms.get_scaled_positions(wrap=False))


def _energy_forces_stress(model: Any, structure: Structure, device: str) -> tuple[float, np.ndarray, np.ndarray]:
    """Total energy (eV), forces (n, 3) in eV/A and symmetric stress (3, 3) in eV/A^3, one backward pass."""
    graph = model.graph_converter(structure).to(device)
    batch = BatchedGraph.from_graphs(
        [graph],
        bond_basis_expansion=model.bond_basis_expansion,
        angle_basis_expansion=model.angle_basis_expansion,
        compute_stress=True,
    )
    predicted = model._compute(batch)["e"]  # noqa: SLF001 - the public call computes two gradients, see the module
    scale = len(structure) if model.is_intensive else 1
    gradients = torch.autograd.grad(predicted.sum() * scale, [batch.atom_positions[0], batch.strains[0]])
    with torch.no_grad():
        energy = predicted.item()
        if model.composition_model is not None:
            energy += model.composition_model([graph]).item()
    to_positions, to_strain = (gradient.cpu().numpy().astype(float) for gradient in gradients)
    # The volume is positive also for a left-handed cell, where the package's own stress changes its sign.
    stress = 0.5 * (to_strain + to_strain.T) / abs(structure.lattice.volume)
    return energy * scale, -to_positions, stress
