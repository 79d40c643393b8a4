"""The README's code runs, and its commands are the ones that continuous integration runs."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from pymatgen.core import Structure

from fuse_flows.config import load_config
from fuse_flows.flows.local import submit, work
from fuse_flows.store.queries import best_candidates

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(name):
    return re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", README, re.DOTALL).group(1)


def test_commands_are_found_by_continuous_integration():
    script = (ROOT / ".ci" / "run").read_text()
    for name in ("search", "tests"):
        assert f"readme_command {name}" in script
        assert "-c constraints.txt" in block(f"command: {name}")


@pytest.mark.mongo
def test_query_returns_the_best_structure(connection):
    search = load_config(
        formula="MgO",
        max_atoms=4,
        generator={"initial_structures": 2},
        stop={"max_structures": 4},
        tiers=[
            {"calculator": "lj", "max_steps": 200, "fmax": 0.2, "smax": 2, "calculator_kwargs": {"sigma": 1.9, "rc": 6}}
        ],
    )
    submit(connection, search)
    work(connection, search.search_id)
    code = block("python: query")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})  # noqa: S102 - the README's own code
    best = best_candidates(connection, "MgO", 1)[0]
    assert printed.getvalue().split() == [best["candidate_id"], str(best["energy_per_atom"]), best["space_group"]]


@pytest.mark.mongo
def test_lines_about_a_search_run(search, tmp_path):
    namespace = {}
    exec(block("python: look").replace("SrTiO3", "Cu3Au"), namespace)  # noqa: S102 - the README's own code
    assert len(namespace["frame"]) == len(search.candidates(within=0.1))
    assert Structure.from_file(tmp_path / "best.cif").composition.reduced_formula == "Cu3Au"


def test_example_configuration_is_accepted(tmp_path):
    example = re.search(r"```yaml\n(formula: .*?)```", README, re.DOTALL).group(1)
    path = tmp_path / "search.yaml"
    path.write_text(example)
    assert load_config(path).formula == "Ca3Ti2O7"


def test_python_example_makes_a_flow_and_a_workflow():
    namespace = {}
    exec(re.search(r"```python\n(from fuse_flows\.config.*?)```", README, re.DOTALL).group(1), namespace)  # noqa: S102
    assert namespace["flow"].name == "structure search of SrTiO3"
    assert len(namespace["workflow"].fws) == len(namespace["flow"].jobs)


def test_every_command_of_the_table_exists():
    from typer.main import get_command

    from fuse_flows.cli.app import app

    group = get_command(app)
    listed = set(re.findall(r"`fuse-flows (\w+)", README))
    assert listed <= set(group.commands)
    assert {name for name, command in group.commands.items() if not command.hidden} <= listed
