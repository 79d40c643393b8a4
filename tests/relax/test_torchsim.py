"""Models of torch-sim as a tier, with those that need no weights and with models of our own."""

from __future__ import annotations

import sys
from importlib.metadata import version

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.neighborlist import neighbor_list
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig, load_config
from fuse_flows.errors import ConfigError, MissingExtraError
from fuse_flows.relax import calculators
from fuse_flows.relax.ase_tier import AseRelaxer
from fuse_flows.relax.batches import relax_together
from fuse_flows.relax.calculators import check_calculator, cutoff, make_calculator
from fuse_flows.relax.hull import level_of_tier
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.tiers import at_once, build_relaxer, relax_all_through
from fuse_flows.relax.torchsim import with_weights_digests
from fuse_flows.settings import settings

pytest.importorskip("torch_sim")

ARGON = {"model": "lennard_jones", "sigma": 3.4, "epsilon": 0.0104, "cutoff": 7.0}
#: Models that a user may bring: one with weights, one without stress, one that remembers, one that is none.
OWN = """
from torch_sim.models.lennard_jones import LennardJonesModel


class Weighted(LennardJonesModel):
    def __init__(self, model, device=None, dtype=None):
        with open(model) as file:
            sigma = float(file.read())
        super().__init__(sigma, 0.01, device, dtype, compute_forces=True, compute_stress=True)
        self.z_table = type("Table", (), {"zs": [18, 36]})


class Stressless(LennardJonesModel):
    def __init__(self, device=None, compute_forces=True):
        super().__init__(device=device, compute_forces=compute_forces)


class Forgetful(LennardJonesModel):
    seen = None

    def setup_from_system_idx(self, numbers, systems):
        self.seen = systems

    def forward(self, state):
        assert self.seen.tolist() == state.system_idx.tolist()
        return super().forward(state)


class Greedy(LennardJonesModel):
    batches = []

    def forward(self, state):
        self.batches.append(len(state.positions))
        if len(state.positions) > 9:
            raise RuntimeError("CUDA out of memory")
        return super().forward(state)


class NoModel:
    pass
"""


def tier(**kwargs):
    values = {key: kwargs.pop(key) for key in ("relax_cell", "max_steps", "second_pass", "pressure") if key in kwargs}
    return TierConfig(calculator="torchsim", calculator_kwargs=kwargs or ARGON, **values)


@pytest.fixture(name="crystals")
def _crystals():
    """Cells of all shapes: oblique, left-handed, of one atom, with atoms outside."""
    rng = np.random.default_rng(4)
    found = []
    for size in (4, 1, 6, 3, 8):
        cell = 5.0 * np.eye(3) + rng.normal(scale=0.9, size=(3, 3))
        cell *= (24.0 * size / abs(np.linalg.det(cell))) ** (1 / 3)
        fractions = rng.random((size, 3))
        found.append(Atoms("Ar" * size, cell=cell, scaled_positions=fractions, pbc=True))
    found[2].set_cell(found[2].cell.array[[1, 0, 2]])
    found[3].positions += np.array([0.4, -2.0, 1.0]) @ found[3].cell.array
    assert sum(np.linalg.det(atoms.cell.array) < 0 for atoms in found) == 1
    return found


@pytest.fixture(name="solids")
def _solids():
    faces = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    fcc = Structure(Lattice.cubic(5.3), ["Ar"] * 4, faces)
    close = Structure(Lattice.cubic(5.3), ["Ar"] * 2, [[0, 0, 0], [0.1, 0, 0]])
    oblique = Structure(Lattice.from_parameters(3.7, 3.9, 4.0, 65, 70, 60), ["Ar"], [[0, 0, 0]])
    return [fcc.copy().perturb(0.2, seed=1), close, (fcc * (2, 1, 1)).perturb(0.3, seed=2), oblique]


@pytest.fixture(name="own")
def _own(tmp_path, monkeypatch):
    (tmp_path / "own_torchsim.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_torchsim", raising=False)
    calculators._make.cache_clear()


def same(one, two):
    assert (one.outcome, one.energy, one.steps, one.reason) == (two.outcome, two.energy, two.steps, two.reason)
    assert (one.structure.lattice.matrix == two.structure.lattice.matrix).all()
    assert (one.structure.frac_coords == two.structure.frac_coords).all()


def agrees(atoms, numbers, reference, shift=0.0):
    atoms = atoms.copy()
    atoms.calc = reference
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    assert numbers.energy == pytest.approx(atoms.get_potential_energy() + shift, rel=1e-9)
    np.testing.assert_allclose(numbers.forces, forces, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(forces).max()))
    np.testing.assert_allclose(numbers.stress, stress, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(stress).max()))


def test_lennard_jones_is_that_of_ase(crystals):
    """But for the shift of ASE's energies, which makes them end at zero."""
    found = make_calculator(tier()).compute_many(crystals)
    at_the_end = 4 * 0.0104 * ((3.4 / 7.0) ** 12 - (3.4 / 7.0) ** 6)
    for atoms, numbers in zip(crystals, found, strict=True):
        pairs = len(neighbor_list("i", atoms, 7.0)) / 2
        agrees(atoms, numbers, LennardJones(sigma=3.4, epsilon=0.0104, rc=7.0), pairs * at_the_end)


def test_morse_is_that_of_ase(crystals):
    atoms = crystals[2]
    radii = neighbor_list("d", atoms, 9.0)
    reach = max(np.diff(np.sort(radii)).argmax(), 0)
    end = float(np.sort(radii)[reach : reach + 2].mean())
    found = make_calculator(tier(model="morse", sigma=3.8, epsilon=0.02, alpha=1.3, cutoff=end)).compute_many([atoms])
    cut = {"rcut1": (end - 1e-7) / 3.8, "rcut2": (end + 1e-7) / 3.8}  # a cut, not a slope
    agrees(atoms, found[0], MorsePotential(r0=3.8, epsilon=0.02, rho0=1.3 * 3.8, **cut))


def test_soft_sphere_follows_its_energy(crystals):
    calculator = make_calculator(tier(model="soft_sphere", sigma=3.0, epsilon=0.1, alpha=8, cutoff=4.0))
    atoms, h = crystals[0].copy(), 1e-5
    atoms.calc = calculator
    forces, (x, y) = atoms.get_forces(), (atoms.positions.copy(), np.eye(4, 3))
    energies = []
    for sign in (1, -1):
        atoms.positions = x + sign * h * y
        energies.append(atoms.get_potential_energy())
    assert (energies[1] - energies[0]) / (2 * h) == pytest.approx((forces * y).sum(), rel=1e-6)


def test_numbers_of_a_batch_are_those_of_the_calculator(crystals):
    calculator = make_calculator(tier())
    for atoms, many in zip(crystals, calculator.compute_many(crystals), strict=True):
        (one,) = calculator.compute_many([atoms])
        assert many.energy == one.energy
        assert (many.forces == one.forces).all()
        assert (many.stress == one.stress).all()


def test_relaxes_silently(solids, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calculators._make.cache_clear()
    assert AseRelaxer(tier()).relax(solids[0]).outcome is Outcome.CONVERGED
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("capacity", [1, 9, 100])
def test_relaxations_in_batches_are_those_one_by_one(solids, capacity):
    relaxer = build_relaxer(tier(**ARGON, max_steps=60))
    alone = [relaxer.relax(structure) for structure in solids]
    assert [result.outcome for result in alone].count(Outcome.CONVERGED) == 3
    assert alone[1].outcome is Outcome.TOO_CLOSE
    for one, two in zip(alone, relax_together(relaxer, solids, capacity=capacity), strict=True):
        same(one, two)


def test_the_second_pass_and_the_pressure_of_any_tier(solids):
    results = relax_all_through([solids[0]], [tier(**ARGON, pressure=0.5)])[0]
    assert results[0].outcome is Outcome.CONVERGED
    assert results[0].smax < 0.1 + 1e-9  # a fifth of what the tier asks for
    at_rest = relax_all_through([solids[0]], [tier()])[0]
    assert results[0].structure.volume < at_rest[0].structure.volume
    assert results[0].enthalpy_per_atom > results[0].energy_per_atom


@pytest.mark.usefixtures("own")
def test_too_little_memory_halves_the_batches(solids):
    import own_torchsim

    kwargs = {"model": "own_torchsim:Greedy", "sigma": 3.4, "epsilon": 0.0104, "cutoff": 7.0}
    relaxer = AseRelaxer(tier(**kwargs, max_steps=60))
    good = [solids[0], solids[2], solids[3]]
    reference = build_relaxer(tier(**ARGON, dtype="float64", max_steps=60))
    for one, two in zip(relax_together(relaxer, good), map(reference.relax, good), strict=True):
        assert one.outcome is two.outcome
        assert one.energy == pytest.approx(two.energy, abs=1e-5)
    assert own_torchsim.Greedy.batches[0] == 13
    assert max(own_torchsim.Greedy.batches[3:]) <= 9


@pytest.mark.usefixtures("own")
def test_a_model_that_remembers_is_told_of_every_batch(crystals):
    calculator = make_calculator(tier(model="own_torchsim:Forgetful", sigma=3.4, dtype="float64"))
    calculator.compute_many([crystals[0], crystals[1]])
    calculator.compute_many([crystals[1], crystals[0]])


def test_what_the_relaxer_learns():
    relaxer = build_relaxer(tier())
    assert (relaxer.name, relaxer.version) == ("torchsim", version("torch-sim-atomistic"))
    assert cutoff(relaxer.calculator) == pytest.approx(7.0)
    assert relaxer.calculator.species is None
    assert at_once([tier()]) == settings().relax_workers
    assert make_calculator(tier()) is make_calculator(tier(**dict(reversed(ARGON.items()))))


@pytest.mark.parametrize(
    ("kwargs", "field", "words"),
    [
        ({"sigma": 3.4}, "model", "is missing; use one of mace, orb"),
        ({"model": "mase"}, "model", "'mase' is unknown; use one of mace"),
        ({"model": "no_such_module:Model"}, "model", "no_such_module"),
        ({"model": "torch_sim.models.lennard_jones:Nothing"}, "model", "Nothing"),
        ({"model": "own_torchsim:NoModel"}, "model", "no class of torch-sim models"),
        ({"model": "own_torchsim:Weighted"}, "weights", "needs the weights"),
        ({"model": "own_torchsim:Weighted", "weights": "/no/such/file"}, "weights", "No such file"),
        ({"model": "lennard_jones", "weights": "medium"}, "weights", "has none"),
        ({"model": "lennard_jones", "device": "gpu"}, "device", "use cpu, cuda"),
        ({"model": "lennard_jones", "device": "cuda:99"}, "device", "not to be had here; use cpu"),
        ({"model": "lennard_jones", "dtype": "float16"}, "dtype", "float32"),
        ({"model": "lennard_jones", "sigmaa": 3.4}, None, "does not know sigmaa; its own are: cutoff, epsilon"),
        ({"model": "lennard_jones", "use_neighbor_list": False}, None, "does not know use_neighbor_list"),
        ({"model": "lennard_jones", "sigma": "wide"}, None, "cannot be made"),
        ({"model": "own_torchsim:Stressless", "dtype": "float64"}, None, "does not know dtype"),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_is_wrong_is_said_before_anything_is_submitted(kwargs, field, words):
    for call in (make_calculator, lambda bad: check_calculator(bad, ["Ar"])):
        with pytest.raises(ConfigError) as caught:
            call(tier(**kwargs))
        assert caught.value.field == ".".join(filter(None, ("tiers.calculator_kwargs", field)))
        assert words in str(caught.value)


@pytest.mark.usefixtures("own")
def test_a_model_without_stress_relaxes_no_cell(solids):
    with pytest.raises(ConfigError, match=r"tiers\.relax_cell: own_torchsim:Stressless gives no stress"):
        check_calculator(tier(model="own_torchsim:Stressless"), ["Ar"])
    fixed = tier(model="own_torchsim:Stressless", relax_cell=False)
    check_calculator(fixed, ["Ar"])
    assert build_relaxer(fixed).relax(solids[3]).outcome is Outcome.ISOLATED_ATOMS  # sigma is 1 A


@pytest.mark.usefixtures("own")
def test_elements_of_the_model(tmp_path):
    (tmp_path / "weights.txt").write_text("3.4")
    weighted = tier(model="own_torchsim:Weighted", weights=str(tmp_path / "weights.txt"))
    check_calculator(weighted, ["Ar", "Kr"])
    with pytest.raises(ConfigError, match=r"calculator_kwargs\.model: .* has no parameters for Ne, Xe"):
        check_calculator(weighted, ["Xe", "Ar", "Ne"])


@pytest.mark.usefixtures("own")
def test_the_content_of_weights_names_a_search_not_their_place(tmp_path):
    def config(file, sigma):
        file.write_text(sigma)
        kwargs = {"model": "own_torchsim:Weighted", "weights": str(file)}
        search = load_config(formula="Ar", max_atoms=4, tiers=[{"calculator": "torchsim", "calculator_kwargs": kwargs}])
        return with_weights_digests(search)

    (tmp_path / "there").mkdir()
    here, there = config(tmp_path / "w.txt", "3.4"), config(tmp_path / "there" / "w.txt", "3.4")
    other = config(tmp_path / "other.txt", "3.5")
    assert here.search_id == there.search_id != other.search_id
    assert level_of_tier(here.tiers[0]) == level_of_tier(there.tiers[0]) != level_of_tier(other.tiers[0])
    check_calculator(other.tiers[0], ["Ar"])
    (tmp_path / "other.txt").write_text("3.6")
    calculators._make.cache_clear()
    with pytest.raises(ConfigError, match="has changed since the search was submitted"):
        make_calculator(other.tiers[0])


def test_every_keyword_names_the_search():
    def search_id(**changes):
        kwargs = ARGON | changes
        return load_config(
            formula="Ar", max_atoms=4, tiers=[{"calculator": "torchsim", "calculator_kwargs": kwargs}]
        ).search_id

    ids = [search_id(**changes) for changes in ({}, {"sigma": 3.5}, {"dtype": "float32"}, {"model": "morse"})]
    assert len(set(ids)) == len(ids)


def test_missing_packages(monkeypatch):
    monkeypatch.setattr(calculators, "find_spec", lambda name: None if name == "torch_sim" else object())
    for call in (make_calculator, lambda bad: check_calculator(bad, ["Ar"])):
        with pytest.raises(MissingExtraError, match=r"torch-sim-atomistic .*fuse-flows\[torchsim\]"):
            call(tier())


@pytest.mark.parametrize(
    ("model", "package"),
    [("mace", "mace-torch"), ("orb", "orb-models"), ("sevennet", "sevenn"), ("mattersim", "mattersim")],
)
def test_missing_package_of_a_model(monkeypatch, model, package):
    from fuse_flows.relax import torchsim_model

    monkeypatch.setattr(torchsim_model, "find_spec", lambda _name: None)
    calculators._make.cache_clear()
    with pytest.raises(ConfigError, match=f"needs the package {package}; run: pip install {package}"):
        check_calculator(tier(model=model, weights="any"), ["Ar"])


def test_a_machine_that_only_submits_needs_neither_model_nor_device(monkeypatch):
    monkeypatch.setenv("FUSE_FLOWS_TORCHSIM_ELSEWHERE", "true")
    settings.cache_clear()
    check_calculator(tier(model="mace", weights="medium-mpa-0", device="cuda:99"), ["Mg", "O"])
    with pytest.raises(ConfigError, match="unknown"):
        check_calculator(tier(model="mase"), ["Mg", "O"])


def test_mace_from_a_file(tmp_path):
    """A small MACE without training, where mace-torch is installed: as its own calculator, whatever the batch."""
    pytest.importorskip("mace")
    import torch
    from e3nn.o3 import Irreps
    from mace import modules
    from mace.calculators import MACECalculator

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    sizes = {"num_bessel": 4, "num_polynomial_cutoff": 5, "max_ell": 2, "num_interactions": 2, "correlation": 2}
    sizes |= {"hidden_irreps": Irreps("8x0e+8x1o"), "MLP_irreps": Irreps("8x0e"), "gate": torch.nn.functional.silu}
    sizes |= {"interaction_cls": block, "interaction_cls_first": block, "avg_num_neighbors": 8}
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    elements = {"num_elements": 2, "atomic_numbers": [8, 12], "atomic_energies": np.array([-1.0, -2.0])}
    model = modules.ScaleShiftMACE(r_max=4.5, atomic_inter_scale=[1.0], atomic_inter_shift=[0.0], **sizes, **elements)
    torch.set_default_dtype(torch.float32)
    torch.save(model, tmp_path / "small.model")
    small = tier(model="mace", weights=str(tmp_path / "small.model"))
    check_calculator(small, ["Mg", "O"])
    with pytest.raises(ConfigError, match="no parameters for Sr"):
        check_calculator(small, ["Sr", "O"])
    reference = MACECalculator(model_paths=str(tmp_path / "small.model"), device="cpu", default_dtype="float64")
    torch.set_default_dtype(torch.float32)
    pair = Atoms(
        "MgO", cell=[[0, 2.2, 2.1], [2.1, 0, 2.2], [2.3, 2.1, 0]], scaled_positions=[[0, 0, 0], [0.5, 0.45, 0.5]]
    )
    pair.pbc = True
    left = Atoms("MgO", cell=pair.cell.array[[1, 0, 2]], scaled_positions=[[0, 0, 0], [0.4, 0.5, 0.5]], pbc=True)
    four = pair * (2, 1, 1)
    calculator = make_calculator(small)
    for batch in ([four], [pair, left], [left, pair], [pair, four, left]):  # the same elements in a row
        for atoms, numbers in zip(batch, calculator.compute_many(batch), strict=True):
            agrees(atoms, numbers, reference)


def test_device(solids):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    relaxer = build_relaxer(tier(**ARGON, device="cuda"))
    assert relaxer.calculator_runs_on_gpu
    assert at_once([relaxer.tier]) is None
    before = relaxer.calculator.batch_capacity()
    for one, two in zip(build_relaxer(tier()).relax_batch(solids), relaxer.relax_batch(solids), strict=True):
        assert one.outcome is two.outcome
        if one.energy is not None:
            assert two.energy_per_atom == pytest.approx(one.energy_per_atom, abs=1e-6)
    assert relaxer.calculator.batch_capacity() > before  # a pair potential needs less than was feared
