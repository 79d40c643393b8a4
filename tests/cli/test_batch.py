"""Many searches from one file: checked together, added once, or written as files."""

import re

import pytest
import yaml
from fireworks import Workflow
from typer.testing import CliRunner

from fuse_flows.cli.app import app
from fuse_flows.errors import ConfigError
from fuse_flows.flows.batch import read_batch
from fuse_flows.store.requests import is_stop_requested, request_stop
from fuse_flows.store.searches import search_config_of

pytestmark = pytest.mark.mongo

TIERS = [{"calculator": "emt", "max_steps": 3, "fmax": 1, "smax": 9}]
BATCH = {
    "priority": 2,
    "common": {
        "max_atoms": 4,
        "generator": {"initial_structures": 2},
        "stop": {"max_structures": 5},
        "execution": {"structures_per_job": 2},
        "tiers": TIERS,
    },
    "searches": ["Cu3Au", {"formula": "CuAu", "seed": 4, "priority": 9}, {"formula": "Cu3Au", "label": "again"}],
}


def invoke(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def written(path, **changes):
    path.write_text(yaml.safe_dump(BATCH | changes))
    return path


def test_a_batch_is_added_once(connection, tmp_path):
    file = written(tmp_path / "compounds.yaml")
    done = invoke("workflow", "--batch", file)
    assert done.exit_code == 0, done.output
    assert "3 searches: submitted 3" in done.output
    names = connection.launchpad.workflows.distinct("metadata.search_id")
    assert len(names) == 3
    number = connection.launchpad.fireworks.count_documents({})
    found = {name: search_config_of(connection, name) for name in names}
    assert {(one.formula, one.seed, one.label) for one in found.values()} == {
        ("Cu3Au", 0, ""),
        ("CuAu", 4, ""),
        ("Cu3Au", 0, "again"),
    }
    assert all(one.stop.max_structures == 5 for one in found.values())
    query = {"spec.search_id": {"$regex": "^CuAu-"}}
    assert connection.launchpad.fireworks.distinct("spec._priority", query) == [9]
    assert sorted(connection.launchpad.fireworks.distinct("spec._priority")) == [2, 9]

    (stopped, *_) = names
    request_stop(connection.launchpad, stopped)
    longer = written(tmp_path / "longer.yaml", searches=[*BATCH["searches"], {"formula": "CuAu3"}])
    done = invoke("workflow", "--batch", longer)
    assert "4 searches: continued 3, submitted 1" in done.output
    assert connection.launchpad.fireworks.count_documents({"spec.search_id": {"$in": names}}) == number
    assert is_stop_requested(connection.launchpad, stopped), "who asked it to stop meant it"


def test_options_override_the_file(connection, tmp_path):
    done = invoke("workflow", "--batch", written(tmp_path / "b.yaml"), "--max-structures", 4, "--priority", 1)
    assert done.exit_code == 0, done.output
    for name in connection.launchpad.workflows.distinct("metadata.search_id"):
        config = search_config_of(connection, name)
        assert (config.stop.max_structures, config.generator.initial_structures) == (4, 2)
    assert connection.launchpad.fireworks.distinct("spec._priority") == [1]


def test_hundreds_of_searches(connection, tmp_path):
    searches = [{"formula": "Cu3Au", "seed": seed} for seed in range(120)]
    file = written(tmp_path / "many.yaml", searches=searches)
    assert "120 searches: submitted 120" in invoke("workflow", "--batch", file).output
    assert connection.launchpad.workflows.count_documents({}) == 120
    assert len(connection.launchpad.workflows.distinct("metadata.once")) == 120


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"searches": ["Cu3Au", "Xx2", "Zz"]},
            r"searches\[2\] \(Xx2\)\.formula: .*\(1 more of its searches are wrong: searches\[3\] \(Zz\)\.formula;",
        ),
        (
            {"searches": ["Cu3Au", {"formula": "CuAu", "max_atom": 3}]},
            r"\(CuAu\)\.max_atom: is not a key",
        ),
        ({"searches": ["Cu3Au", {"formula": "Cu6Au2"}]}, "is the same search as"),
        ({"searches": ["Cu3Au", "Cu3Au"]}, r"searches\[2\] \(Cu3Au\)\.formula: is the same search as searches\[1\]"),
        ({"searches": []}, "batch: .* must hold a list 'searches'"),
        ({"searches": [{"max_atoms": 3}]}, r"searches\[1\]: must be a formula"),
        ({"searches": [{"formula": "CuAu", "priority": "high"}]}, r"searches\[1\]\.priority: must be a whole number"),
        ({"common": {"formula": "CuAu"}}, "common: "),
        ({"max_atoms": 4}, "max_atoms: is no key of a batch; .*'common'"),
    ],
)
def test_nothing_is_added_if_anything_is_wrong(connection, tmp_path, changes, message):
    done = invoke("workflow", "--batch", written(tmp_path / "b.yaml", **changes))
    assert isinstance(done.exception, ConfigError)
    assert re.search(message, str(done.exception)), str(done.exception)
    assert connection.launchpad.workflows.count_documents({}) == 0


def test_formula_or_batch(tmp_path):
    file = written(tmp_path / "b.yaml")
    for words in (["workflow"], ["workflow", "CuAu", "--batch", file]):
        assert "formula: give either" in str(invoke(*words).exception)
    assert "config: cannot be given together" in str(invoke("workflow", "-b", file, "-c", file).exception)
    with pytest.raises(ConfigError, match=r"^batch: .* cannot be read"):
        read_batch(tmp_path / "missing.yaml")


def test_files_in_place_of_a_launchpad(connection, tmp_path):
    folder = tmp_path / "flows"
    done = invoke("workflow", "--batch", written(tmp_path / "b.yaml"), "-o", folder)
    assert done.exit_code == 0, done.output
    files = sorted(folder.glob("*.yaml"))
    assert len(files) == 3
    assert connection.launchpad.workflows.count_documents({}) == 0
    workflows = [Workflow.from_file(str(file)) for file in files]
    assert sorted(flow.fws[0].spec["_priority"] for flow in workflows) == [2, 2, 9]
    assert [flow.metadata["search_id"] for flow in workflows] == [file.stem for file in files]


def test_recipes_in_a_batch(tmp_path):
    file = written(tmp_path / "b.yaml", recipe="fgen-spp", searches=["MgO", {"formula": "NaCl", "recipe": "mlgen"}])
    assert [(entry.formula, entry.recipe, entry.priority) for entry in read_batch(file)] == [
        ("MgO", "fgen-spp", 2),
        ("NaCl", "mlgen", 2),
    ]
