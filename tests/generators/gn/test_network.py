import json

import numpy as np
import pytest
from ase.build import bulk, make_supercell
from ase.data import chemical_symbols

pytest.importorskip("tensorflow")
pytest.importorskip("megnet")

import h5py

from fuse_flows.errors import ConfigError
from fuse_flows.generators.base import Cell, EnergyModel
from fuse_flows.generators.gn.architecture import Architecture
from fuse_flows.generators.gn.backend import MEGNetLayer, Set2Set, tf
from fuse_flows.generators.gn.baseline import Baseline
from fuse_flows.generators.gn.graphs import build_graphs
from fuse_flows.generators.gn.model import load_network, network_digest
from fuse_flows.generators.gn.network import Network
from fuse_flows.generators.gn.predicting import Predictor
from fuse_flows.generators.gn.storage import SavedNetwork

SYMBOLS = ("O", "Na", "Mg", "Cl", "Ti")


def random_cell(seed, n=6, volume=14.0):
    rng = np.random.default_rng(seed)
    lattice = np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))
    lattice *= (n * volume / abs(np.linalg.det(lattice))) ** (1 / 3)
    return Cell(lattice, rng.choice([8, 12, 22], n), rng.random((n, 3)))


def cell_of(atoms):
    return Cell(np.array(atoms.cell), atoms.numbers.astype(int), atoms.get_scaled_positions())


def saved(seed=3, **sizes):
    network = Network(Architecture(**sizes), seed)
    slopes = np.zeros(119)
    slopes[8] = -1.5
    return SavedNetwork(
        network.architecture, network.weights(), Baseline(slopes, 0.2, 0.7), SYMBOLS, {"licence": "ours"}
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_network(saved().save(tmp_path_factory.mktemp("model") / "one"))


def test_names_and_shapes_of_weights_are_those_of_the_network():
    architecture = Architecture(units=(7, 5, 3), blocks=2, embedding=6, centres=9, state=1)
    network = Network(architecture)
    assert list(architecture.shapes().items()) == list(network.shapes().items())


def test_layers_answer_like_those_of_megnet():
    network = Network(Architecture(), seed=1)
    graphs = build_graphs([random_cell(seed) for seed in range(3)], merge=False)
    batch = graphs.batch(np.arange(3))
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(size, 32)).astype(np.float32) for size in (len(batch.elements), len(batch.kinds), 3)]
    block = network.blocks[0]
    links = batch.centres, batch.others, batch.node_graph, batch.edge_graph
    stock = MEGNetLayer.call(block, [part[None] for part in features] + [part[None] for part in links])
    for ours, theirs in zip(block.update(*map(tf.constant, features), batch), stock, strict=True):
        np.testing.assert_allclose(ours, theirs[0], atol=1e-5, rtol=1e-4)
    reader = network.readers["bond"]
    theirs = Set2Set.call(reader, [tf.constant(features[1])[None], batch.edge_graph[None]])
    ours = reader.read(features[1], batch.edge_weight, batch.edge_graph, 3)
    np.testing.assert_allclose(ours, theirs[0], atol=1e-5)


def test_merging_changes_nothing():
    cells = [cell_of(bulk("NaCl", "rocksalt", a=5.64, cubic=True)), cell_of(bulk("Mg")), random_cell(5), random_cell(6)]
    predictor = Predictor(Network(Architecture(), seed=2))
    merged, full = build_graphs(cells), build_graphs(cells, merge=False)
    assert len(merged.kinds) < len(full.kinds)
    chosen = np.arange(len(cells))
    np.testing.assert_allclose(predictor(merged, chosen), predictor(full, chosen), atol=2e-5)


def test_is_an_energy_model(model):
    assert isinstance(model, EnergyModel)
    assert model.name == "gn"
    assert len(model.version) == 12


def test_a_batch_gives_what_each_cell_gives_alone(model):
    cells = [random_cell(seed, n=1 + seed % 7) for seed in range(30)]
    together = model.energies(cells)
    alone = [model.energies([cell])[0] for cell in cells]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.ptp(together) > 1e-3


def test_energy_does_not_depend_on_the_description(model):
    cell = random_cell(11, n=5)
    rng = np.random.default_rng(1)
    order = rng.permutation(5)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    permuted = Cell(cell.lattice, cell.numbers[order], cell.frac_coords[order])
    moved = Cell(cell.lattice, cell.numbers, (cell.frac_coords + np.array([0.21, 0.77, 0.4])) % 1.0)
    turned = cell._replace(lattice=cell.lattice @ rotation)
    shear = np.array([[1, 0, 0], [2, 1, 0], [0, -1, 1]])
    skewed = Cell(shear @ cell.lattice, cell.numbers, (cell.frac_coords @ np.linalg.inv(shear)) % 1.0)
    one = model.energies([cell])[0]
    np.testing.assert_allclose(model.energies([permuted, moved, turned, skewed]), one, atol=1e-5)


def test_a_supercell_has_the_same_energy(model):
    salt = bulk("NaCl", "rocksalt", a=5.64)
    salt.positions[0] += 0.1
    supercell = make_supercell(salt, [[1, 1, 0], [0, 2, 0], [0, 1, 3]])
    one, many = model.energies([cell_of(salt), cell_of(supercell)])
    assert one == pytest.approx(many, abs=1e-5)


def test_cells_without_energy_are_nan_and_do_not_disturb_others(model):
    alone = Cell(np.eye(3) * 9.0, np.array([12]), np.zeros((1, 3)))
    unknown = Cell(np.eye(3) * 3.0, np.array([79]), np.zeros((1, 3)))
    fine = random_cell(1)
    told = model.energies([alone, fine, unknown])
    assert np.isnan(told[[0, 2]]).all()
    assert told[1] == pytest.approx(model.energies([fine])[0], abs=1e-6)
    assert np.isnan(model.energies([alone])).all()
    assert model.energies([]).shape == (0,)


def test_unknown_elements_are_refused(model):
    model.check(["O", "Ti"])
    with pytest.raises(ConfigError, match=r"^model_file: the network knows no Au, Xe;"):
        model.check(["O", "Xe", "Au"])


def test_saved_and_read_again(tmp_path, model):
    written = saved(units=(8, 6, 4), blocks=2, cutoff=4.0)
    path = written.save(tmp_path / "net.npz")
    network = load_network(path)
    assert network.saved.architecture == written.architecture
    assert network.saved.provenance == {"licence": "ours"}
    assert network.version == network_digest(path) != model.version
    for name, part in written.weights.items():
        np.testing.assert_array_equal(network.saved.weights[name], part)
    cell = random_cell(3)
    told = written.baseline.energies(
        np.array([np.bincount(cell.numbers, minlength=119) / 6]),
        Predictor(Network(written.architecture, 3))(build_graphs([cell], cutoff=4.0), np.array([0])),
    )
    np.testing.assert_allclose(network.energies([cell]), told, atol=1e-6)


@pytest.mark.parametrize("damage", ["missing", "text", "other", "version", "shape", "element", "nan"])
def test_bad_files_are_named(tmp_path, damage):
    path = saved(units=(4, 3, 2), blocks=1).save(tmp_path / "net.npz")
    arrays = dict(np.load(path))
    told = json.loads(str(arrays["told"]))
    words = "is no network"
    if damage == "missing":
        path, words = tmp_path / "nowhere.npz", "there is no file"
    elif damage == "text":
        path.write_text("hello")
        words = r"is no network \(it holds no arrays\)"
    elif damage == "other":
        np.savez(path, x=np.zeros(3))
    elif damage == "version":
        told["format"], words = 7, "has format 7"
    elif damage == "shape":
        arrays["weights/embedding"], words = np.zeros((3, 3), np.float32), "embedding is"
    elif damage == "element":
        told["symbols"] = ["O", "Qq"]
    elif damage == "nan":
        arrays["weights/embedding"][1, 1], words = np.nan, "embedding has numbers that are not finite"
    if damage in {"version", "shape", "element", "nan"}:
        np.savez(path, **arrays | {"told": np.array(json.dumps(told))})
    with pytest.raises(ConfigError, match=f"^model_file: .*{words}.*fuse-flows gn train"):
        load_network(path)


def published(folder, network):
    """Write weights in the format of MEGNet's published models (Keras 2)."""
    weights, layers, stored = network.weights(), [], {}

    def layer(kind, name, sources, arrays=None, **config):
        links = [[[source, 0, 0, {}] for source in sources]] if sources else []
        layers.append({"class_name": kind, "config": {"name": name, **config}, "inbound_nodes": links})
        stored[name] = arrays or {}
        return name

    def dense(name, ours, source):
        for depth in (0, 1):
            arrays = {"kernel": weights[f"{ours}_kernel{depth}"], "bias": weights[f"{ours}_bias{depth}"]}
            source = layer("Dense", f"{name}_{depth}", [source], arrays)
        return source

    def numbered(ours, theirs):
        return {
            f"{theirs}_{'weight' if kind == 'kernel' else 'bias'}_{part}_{depth}".removeprefix("_"): weights[
                f"{ours}_{part}_{kind}{depth}"
            ]
            for part in "veu"
            for kind in ("kernel", "bias")
            for depth in range(3)
        }

    features = [layer("InputLayer", f"input_{k}", []) for k in range(7)]
    features[0] = layer("Embedding", "embedding_1", [features[0]], {"embeddings": weights["embedding"]})
    links, before = features[3:], features[:3]
    for k in range(network.architecture.blocks):
        parts = enumerate(("atom", "bond", "state"))
        inner = [dense(f"dense_{k}{part}", f"pre{k}_{part}", before[at]) for at, part in parts]
        block = layer("MEGNetLayer", f"meg_net_layer_{k}", inner + links, numbered(f"block{k}", ""))
        short = inner if k == 0 else before
        before = [layer("Add", f"add_{k}{at}", [short[at], block]) for at in range(3)]
    readers = []
    for part, source in (("atom", before[0]), ("bond", before[1])):
        names = {"x_to_m_weight": "m_weight", "x_to_m_bias": "m_bias"}
        names |= {name: name for name in ("recurrent_kernel", "recurrent_bias")}
        arrays = {theirs: weights[f"read_{part}_{ours}"] for theirs, ours in names.items()}
        readers.append(layer("Set2Set", f"set2_set_{part}", [source], arrays, T=network.architecture.passes))
    source = layer("Concatenate", "concatenate_1", [*readers, before[2]])
    for depth in range(3):
        arrays = {"kernel": weights[f"last_kernel{depth}"], "bias": weights[f"last_bias{depth}"]}
        source = layer("Dense", f"dense_last{depth}", [source], arrays)
    path = folder / "energy.hdf5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": {"layers": layers}})
        for name, arrays in stored.items():
            group = file.create_group(f"model_weights/{name}")
            for array, values in arrays.items():
                group[f"{name}/{array}:0"] = values
    architecture = network.architecture
    centres = np.linspace(0, architecture.furthest, architecture.centres).tolist()
    converter = {"cutoff": architecture.cutoff, "bond_converter": {"centers": centres, "width": architecture.width}}
    path.with_name("energy.hdf5.json").write_text(
        json.dumps({"graph_converter": converter, "metadata": {"name": "Formation energy"}})
    )
    return path


def test_published_models_load(tmp_path):
    network = Network(Architecture(units=(8, 6, 4), centres=20, embedding=5, passes=2, elements=95), seed=9)
    path = published(tmp_path, network)
    model = load_network(path)
    assert model.saved.architecture == network.architecture
    cells = [random_cell(seed) for seed in range(3)]
    expected = Predictor(network)(build_graphs(cells), np.arange(3))
    np.testing.assert_allclose(model.energies(cells), expected, atol=1e-6)
    model.check(chemical_symbols[1:95])
    with pytest.raises(ConfigError, match="knows no Am"):
        model.check(["Am"])
    other = path.with_name("energy.hdf5.json")
    before = network_digest(path)
    other.write_text(other.read_text().replace("5.0", "4.5"))
    assert network_digest(path) != before
    other.unlink()
    with pytest.raises(ConfigError, match=r"model_file: energy.hdf5 needs its energy.hdf5.json"):
        load_network(path)
    other.write_text("{}")
    with pytest.raises(ConfigError, match="no MEGNet model"):
        load_network(path)
