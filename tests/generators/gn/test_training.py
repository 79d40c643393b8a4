import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from ase.data import atomic_numbers

pytest.importorskip("tensorflow")
pytest.importorskip("megnet")

from typer.testing import CliRunner

from fuse_flows.cli.app import app
from fuse_flows.errors import ConfigError
from fuse_flows.generators.gn.architecture import Architecture
from fuse_flows.generators.gn.baseline import fit_baseline
from fuse_flows.generators.gn.data import read_labelled
from fuse_flows.generators.gn.finishing import finished
from fuse_flows.generators.gn.model import load_network
from fuse_flows.generators.gn.packing import Room
from fuse_flows.generators.gn.training import CHECKPOINT, Plan, Trainer

ANIONS = {"F": 2.2, "Cl": 2.9, "Br": 3.1, "O": 2.4, "S": 3.0, "Se": 3.1, "N": 2.5}
CATIONS = {"Li": 1.0, "Na": 1.3, "K": 1.6, "Mg": 1.0, "Ca": 1.3, "Sr": 1.5, "Ba": 1.7, "Sc": 1.1, "Y": 1.3}
PLAN = Plan(
    epochs=4,
    rate=5e-3,
    compiled=False,
    room=Room(edges=256, lengths=128, nodes=64, graphs=16),
    architecture=Architecture(units=(12, 8, 4), blocks=1, centres=30, passes=1),
)


def rock_salts():
    """Rock salts at several volumes, with energies that follow from element and distance."""
    for one, big in CATIONS.items():
        for two, a in ANIONS.items():
            for scale in (0.92, 1.0, 1.08):
                cell = 0.5 * (2 * a + 2 * big - 1.8) * scale * (1 - np.eye(3))
                yield {
                    "id": f"{one}{two}{scale}#{'fine' if scale == 1.0 else 'strained'}",
                    "lattice": cell.tolist(),
                    "species": [one, two],
                    "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
                    "formation_energy_per_atom": -3 + 0.01 * atomic_numbers[one] + 30 * (scale - 1) ** 2,
                }


@pytest.fixture
def files(tmp_path):
    main, off = tmp_path / "data.jsonl", tmp_path / "off.jsonl"
    records = list(rock_salts())
    main.write_text("\n".join(json.dumps(r) for r in records if r["id"].endswith("fine") or len(r["id"]) % 2))
    off.write_text("\n".join(json.dumps(r) for r in records if r["id"].endswith("strained")))
    return main, off


def test_data_are_read_split_and_cut(files, tmp_path):
    main, off = files
    extra = tmp_path / "extra.jsonl"
    record = next(rock_salts()) | {"formation_energy_per_atom": 9.0}
    extra.write_text(json.dumps(record) + "\n\n" + json.dumps(record | {"formation_energy_per_atom": None}))
    data = read_labelled([main], [off, extra])
    assert data.energies.max() == 3.0
    assert data.names[-1] == record["id"]
    assert set(data.weights[data.off_equilibrium]) == {0.5}
    parts = [set(data.indices(part, off_equilibrium=None)) for part in ("train", "tune", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(data)
    compositions = [{data.composition[k].tobytes() for k in part} for part in parts]
    assert not compositions[0] & compositions[1]
    assert not compositions[0] & compositions[2]


@pytest.mark.parametrize("line", ['{"lattice": 3}', "[]", "nonsense", '{"species": ["Qq"]}'])
def test_bad_lines_are_named(files, tmp_path, line):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(files[0].read_text() + "\n" + line)
    with pytest.raises(ConfigError, match=r"^data: line \d+ of .*bad.jsonl"):
        read_labelled([bad])


def test_missing_files_and_empty_parts_are_named(files, tmp_path):
    with pytest.raises(ConfigError, match="there is no file"):
        read_labelled([tmp_path / "nothing"])
    with pytest.raises(ConfigError, match="no crystal is left"):
        Trainer(read_labelled([files[0]], limit=1), PLAN)


def test_composition_alone_is_taken_away():
    rng = np.random.default_rng(0)
    composition = np.zeros((200, 119), np.float32)
    composition[:, [3, 8, 17]] = rng.dirichlet([1, 1, 1], 200)
    energies = (composition @ np.linspace(-2, 2, 119) + 0.5 + 0.1 * rng.normal(size=200)).astype(np.float32)
    baseline = fit_baseline(composition, energies, ridge=1e-6)
    targets = baseline.targets(composition, energies)
    assert targets.std() == pytest.approx(1.0, abs=1e-4)
    assert baseline.std == pytest.approx(0.1, rel=0.2)
    np.testing.assert_allclose(baseline.energies(composition, targets), energies, atol=1e-5)


def test_learns_and_resumes_as_if_never_interrupted(files, tmp_path):
    data = read_labelled([files[0]], [files[1]])
    whole = Trainer(data, PLAN, tmp_path / "whole")
    seen = []

    def report(record):
        seen.append(record)
        if record["epoch"] == 3:  # the checkpoint is still that of epoch 2
            (tmp_path / "cut").mkdir()
            shutil.copy(tmp_path / "whole" / CHECKPOINT, tmp_path / "cut")

    whole.run(report)
    assert [record["epoch"] for record in seen] == [1, 2, 3, 4]
    assert seen[-1]["loss"] < seen[0]["loss"]
    assert whole.progress.done

    second = Trainer(data, PLAN, tmp_path / "cut")
    second.load(tmp_path / "cut" / CHECKPOINT)
    assert second.progress.epoch == 2
    second.run()
    for name, part in whole.optimiser.state().items():
        np.testing.assert_array_equal(second.optimiser.state()[name], part)
    assert [r["mae"] for r in second.progress.curve] == [r["mae"] for r in whole.progress.curve]

    second.plan = replace(PLAN, epochs=6)
    second.load(tmp_path / "whole" / CHECKPOINT)
    assert not second.progress.done
    with pytest.raises(ConfigError, match="another architecture"):
        Trainer(data, replace(PLAN, architecture=Architecture())).load(tmp_path / "cut" / CHECKPOINT)
    with pytest.raises(ConfigError, match="other data"):
        Trainer(read_labelled([files[0]], limit=40), PLAN).load(tmp_path / "cut" / CHECKPOINT)
    with pytest.raises(ConfigError, match=r"^resume: .*start anew"):
        whole.load(tmp_path / "nowhere.npz")

    saved = finished(whole, {"licence": "ours"})
    assert saved.provenance["crystals"]["training"] == len(data.indices("train"))
    assert saved.provenance["evaluation"]["test"]["crystals"] == len(data.indices("test"))
    assert "strained" in saved.provenance["evaluation"]["off_equilibrium"]
    assert len(saved.provenance["curve"]) == 4


def test_stops_early_and_keeps_the_best(files):
    trainer = Trainer(read_labelled([files[0]]), replace(PLAN, epochs=50, patience=2, rate=0.0))
    trainer.run()
    assert trainer.progress.done
    assert trainer.progress.epoch == 3
    assert trainer.progress.best_epoch == 1


def test_the_rate_rises_and_falls_to_zero():
    assert PLAN.rate_at(0.0) == 0.0
    assert PLAN.rate_at(0.5 * PLAN.warm_up) == pytest.approx(0.5 * PLAN.rate)
    assert PLAN.rate_at(PLAN.warm_up) == pytest.approx(PLAN.rate, rel=1e-2)
    assert PLAN.rate_at(1.0) == pytest.approx(0.0, abs=1e-12)


def test_commands(files, tmp_path):
    output = tmp_path / "net.npz"
    words = ["gn", "train", files[0], "--off-equilibrium", files[1], "-o", output, "--epochs", 1, "--no-compile"]
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0
    assert "held-out error" in done.output
    network = load_network(output)
    assert "Na" in network.saved.symbols
    assert output.stat().st_size < 5e6
    again = CliRunner().invoke(app, [*map(str, words), "--resume"], catch_exceptions=False)
    assert "1 epochs done" in again.output
    shown = CliRunner().invoke(app, ["gn", "show", str(output)], catch_exceptions=False)
    assert "validation_mae" in shown.output
    assert "None" not in shown.output
    cif = tmp_path / "nacl.cif"
    from ase.build import bulk

    bulk("NaCl", "rocksalt", a=5.64).write(cif)
    told = CliRunner().invoke(app, ["gn", "predict", str(cif), "--model", str(output)], catch_exceptions=False)
    assert "NaCl" in told.output.replace("ClNa", "NaCl")
    bulk("Au").write(cif)
    with pytest.raises(ConfigError, match="knows no Au"):
        CliRunner().invoke(app, ["gn", "predict", str(cif), "--model", str(output)], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"^hours"):
        CliRunner().invoke(app, [*map(str, words), "--hours", "1"], catch_exceptions=False)


def test_the_rate_may_stay_and_the_validation_part_be_learnt(files, tmp_path):
    data = read_labelled([files[0]], [files[1]])
    start = Trainer(data, PLAN, tmp_path)
    start.run()
    plan = replace(PLAN, epochs=6, rate=1e-3, flat=True, whole=True)
    assert {plan.rate_at(share) for share in (0.1, 0.5, 1.0)} == {1e-3}
    more = Trainer(data, plan, tmp_path)
    more.load(tmp_path / CHECKPOINT)
    more.run()
    assert not len(more.validation)
    assert set(data.indices("tune")) <= set(more.learnt)
    assert not set(data.indices("test")) & set(more.learnt)
    assert [record["mae"] is None for record in more.progress.curve] == [False] * 4 + [True] * 2
    assert (more.progress.best, more.progress.best_epoch) == (start.progress.best, 6)
    for name, part in more.optimiser.mean_weights().items():
        np.testing.assert_array_equal(more.best_weights[name], part)
    told = finished(more, {}).provenance
    assert told["validation_mae"] is None
    assert told["crystals"]["training"] == len(data.indices("train")) + len(data.indices("tune"))
    assert told["evaluation"]["test"]["crystals"] == len(data.indices("test"))
