"""Energies, forces and stresses of many crystals from one forward and one backward pass of CHGNet.

The graphs are joined into one before anything is sent to the device, so the number of its kernels does not depend on
how many crystals there are. The numbers are those of :class:`fuse_flows.relax.chgnet.ChgnetCalculator` to single
precision; on a CPU a sixth of the time is gained at best (`benchmarks/chgnet_relax.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from chgnet.model.model import BatchedGraph

from fuse_flows.relax.cell import Numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chgnet.graph.crystalgraph import CrystalGraph


class _Joined(NamedTuple):
    """The graphs of many crystals as one, and what its gradients are taken for."""

    batch: BatchedGraph
    positions: torch.Tensor
    strains: torch.Tensor
    sizes: list[int]


def compute_graphs(model: Any, graphs: Sequence[CrystalGraph], device: str) -> list[Numbers]:
    """Compute many crystals at once.

    Parameters
    ----------
    model
        A CHGNet with frozen parameters, on the device.
    graphs
        Graphs of the crystals, on the CPU.
    device
        Where the model is.

    Returns
    -------
    list of Numbers
        Of each crystal, in order.
    """
    joined = _join(model, graphs, device)
    predicted = model._compute(joined.batch)["e"]  # noqa: SLF001 - the public call computes two gradients
    sizes = torch.tensor(joined.sizes, dtype=predicted.dtype, device=predicted.device)
    scale = sizes if model.is_intensive else torch.ones_like(sizes)
    wanted = [joined.positions, joined.strains]
    to_positions, to_strains = torch.autograd.grad((predicted.view(-1) * scale).sum(), wanted)
    with torch.no_grad():
        energies = predicted.view(-1)
        if model.composition_model is not None:
            energies = energies + _composition_energies(model.composition_model, joined.batch, joined.sizes)
        volumes = joined.batch.volumes.detach().abs()
    energies, volumes = (energies * scale).double().cpu().numpy(), volumes.double().cpu().numpy()
    strains, rows = to_strains.double().cpu().numpy(), to_positions.double().cpu().numpy()
    numbers, first = [], 0
    for k, size in enumerate(joined.sizes):
        stress = 0.5 * (strains[k] + strains[k].T) / volumes[k]
        numbers.append(Numbers(float(energies[k]), -rows[first : first + size], stress))
        first += size
    return numbers


def _composition_energies(model: Any, batch: BatchedGraph, sizes: list[int]) -> torch.Tensor:
    """Energies of the composition alone, per atom if the model is intensive."""
    kinds = model.max_num_elements
    owners = batch.atom_owners.long()
    counts = torch.bincount(owners * kinds + batch.atomic_numbers.long() - 1, minlength=len(sizes) * kinds)
    features = counts.view(len(sizes), kinds).to(model.fc.weight.dtype)
    if model.is_intensive:
        features = features / features.sum(dim=1, keepdim=True)
    return model.fc(features).view(-1)


def _join(model: Any, graphs: Sequence[CrystalGraph], device: str) -> _Joined:
    """Join graphs into one; indices of atoms and bonds are shifted by those of the graphs before."""
    sizes = [len(graph.atomic_number) for graph in graphs]
    undirected = [len(graph.undirected2directed) for graph in graphs]
    directed = [len(graph.directed2undirected) for graph in graphs]
    first_atom, first_bond, first_edge = (_starts(counts) for counts in (sizes, undirected, directed))
    atom_graph = torch.cat([g.atom_graph.reshape(-1, 2) + a for g, a in zip(graphs, first_atom, strict=True)])
    to_directed = torch.cat([g.undirected2directed + e for g, e in zip(graphs, first_edge, strict=True)])
    to_undirected = torch.cat([g.directed2undirected + b for g, b in zip(graphs, first_bond, strict=True)])
    angles = torch.cat(
        [
            g.bond_graph.reshape(-1, 5) + torch.tensor([a, b, e, b, e], dtype=g.bond_graph.dtype)
            for g, a, b, e in zip(graphs, first_atom, first_bond, first_edge, strict=True)
        ]
    )
    owners = torch.repeat_interleave(torch.arange(len(graphs)), torch.tensor(sizes))
    edge_owners = torch.repeat_interleave(torch.arange(len(graphs)), torch.tensor(directed))
    numbers = torch.cat([graph.atomic_number for graph in graphs])
    fractions = torch.cat([graph.atom_frac_coord.detach() for graph in graphs])
    lattices = torch.stack([graph.lattice.detach() for graph in graphs])
    images = torch.cat([graph.neighbor_image for graph in graphs])
    owners, edge_owners, numbers, fractions, lattices, images = (
        t.to(device) for t in (owners, edge_owners, numbers, fractions, lattices, images)
    )
    atom_graph, to_directed, to_undirected, angles = (
        t.to(device) for t in (atom_graph, to_directed, to_undirected, angles)
    )
    strains = torch.zeros_like(lattices, requires_grad=True)
    cells = lattices + lattices @ strains
    positions = torch.einsum("ni,nij->nj", fractions, cells[owners])
    offsets = torch.einsum("ni,nij->nj", images, cells[edge_owners])
    bonds_ag, bonds_bg, vectors = model.bond_basis_expansion(
        center=positions[atom_graph[:, 0]],
        neighbor=positions[atom_graph[:, 1]],
        undirected2directed=to_directed,
        image=offsets,
        lattice=torch.eye(3, dtype=offsets.dtype, device=device),
    )
    if len(angles):
        angle_bases = model.angle_basis_expansion(vectors[angles[:, 2]], vectors[angles[:, 4]])
        bond_graph = angles[:, [0, 1, 3]]
    else:
        angle_bases = bond_graph = torch.tensor([])
    batch = BatchedGraph(
        atomic_numbers=numbers,
        bond_bases_ag=bonds_ag,
        bond_bases_bg=bonds_bg,
        angle_bases=angle_bases,
        batched_atom_graph=atom_graph,
        batched_bond_graph=bond_graph,
        atom_owners=owners.to(torch.int32),
        directed2undirected=to_undirected,
        atom_positions=[positions],
        strains=[strains],
        volumes=torch.linalg.det(cells),
    )
    return _Joined(batch, positions, strains, sizes)


def _starts(counts: Sequence[int]) -> list[int]:
    """Return how many there are before each."""
    starts, total = [], 0
    for count in counts:
        starts.append(total)
        total += count
    return starts
