"""The paper's experiments: rows of runs made by hand, their tables, and the searches that the options stand for."""

import importlib
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", name="modules")
def _modules():
    """Import the benchmark as its own process does: its files find one another in their folder."""
    sys.path.insert(0, str(FOLDER))
    names = ("experiments", "experiments_rows", "experiments_tables", "experiments_paper")
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))
        for name in names:
            sys.modules.pop(name, None)


def candidate(energy, *cpu, seconds=9.0, source="random"):
    names = ("spp", "chgnet")[-len(cpu) :]
    tiers = [{"calculator": n, "cpu_seconds": c, "seconds": seconds} for n, c in zip(names, cpu, strict=True)]
    return {"energy_per_atom": energy, "tiers": tiers, "source": source, "n_atoms": 4, "space_group": "P1"}


@pytest.fixture
def row(modules):
    def make(formula, recipe, seed, found, before=None, *, initial=2):
        summary = modules["experiments_rows"].summary_of(found, before or {"generate": 0.0, "rank": 0.0}, initial)
        what = {"formula": formula, "recipe": recipe, "seed": seed, "status": "finished", "failed": None}
        return what | {"initial": initial, "search_id": f"{formula}-{recipe}-{seed}"} | summary

    return make


def test_a_run_in_numbers(row):
    made = row(
        "Mn",
        "mlgen-spp",
        0,
        [candidate(-1.0, 1.0, 3.0), candidate(None, 1.0), candidate(-0.9, 1.0, 4.0), candidate(-1.25, 2.0, 5.0)],
        {"generate": 20.0, "rank": 10.0},
    )
    assert made["cpu_by"] == {"generate": 20.0, "rank": 10.0, "spp": 4.0, "chgnet": 13.0}  # candidate(None) is chgnet
    assert made["cpu_seconds"] == pytest.approx(47.0)
    assert made["cpu_per_structure"] == pytest.approx(47 / 4)
    assert made["cpu_per_structure_tiers"] == pytest.approx(17 / 4)
    assert [(place["number"], place["cpu_seconds"]) for place in made["history"]] == [(1, 34.0), (4, 47.0)]
    assert (made["lowest"], made["lowest_initial"], made["improvement"]) == (-1.25, -1.0, 0.25)
    assert (made["relaxed"], made["cpu_is_wall"]) == (3, False)


def test_wall_time_where_there_is_no_other(row):
    made = row("Mn", "fgen", 0, [candidate(-1.0, None), candidate(-1.0, 1.0)])
    assert (made["cpu_seconds"], made["cpu_is_wall"]) == (10.0, True)


def test_a_first_population_that_is_not_complete_has_no_gain(row):
    made = row("Mn", "fgen", 0, [candidate(-1.0, 1.0)], initial=2)
    assert made["lowest"] == -1.0
    assert made["improvement"] is None


def test_tables(modules, row):
    rows = [
        row("Mn", "fgen", 0, [candidate(-1.0, 8.0), candidate(-1.1, 8.0), candidate(-1.2, 8.0)]),
        row("Mn", "fgen", 1, [candidate(-1.0, 4.0), candidate(-1.1, 4.0), candidate(-1.1, 4.0)]),
        row("Mn", "mlgen", 0, [candidate(-1.3, 2.0), candidate(-1.2, 3.0), candidate(-1.35, 1.0)], {"generate": 6.0}),
        row("Li4OBrCl", "fgen", 0, [candidate(None, 1.0)], initial=1),
    ]
    yardstick = modules["experiments_rows"].Yardstick({"Mn": {"alpha": -1.4}}, {"Mn": {"fgen": -1.3, "mlgen": -1.34}})
    made = modules["experiments_tables"].tables(rows, yardstick)
    time = made["time"]["Mn"]
    assert time["fgen"]["tiers"] == pytest.approx(6.0)
    assert (time["mlgen"]["tiers"], time["mlgen"]["all"]) == (pytest.approx(2.0), pytest.approx(4.0))
    assert time["mlgen"]["tiers_times_as_fast"] == pytest.approx(3.0)
    assert time["mlgen"]["all_times_as_fast"] == pytest.approx(1.5)
    lowest = made["lowest"]["Mn"]
    assert lowest["ours"] == {"fgen": -1.2, "mlgen": -1.35}
    assert lowest["mev_above_known"] == pytest.approx(50)
    assert lowest["mev_above_published"] == pytest.approx(-10)
    gain = made["improvement"]["Mn"]
    assert (gain["fgen"]["mean"], gain["fgen"]["largest"]) == (pytest.approx(50), pytest.approx(100))
    assert (gain["fgen"]["improved"], gain["fgen"]["runs"]) == (1, 2)
    equal = made["at_equal_cost"]["Mn"]  # every run had 12 s
    assert equal["cpu_seconds"] == pytest.approx(12)
    assert equal["mean_lowest"] == {"fgen": pytest.approx(-1.05), "mlgen": pytest.approx(-1.35)}
    assert made["lowest"]["Li4OBrCl"]["lowest"] is None


def test_markdown_and_pictures(modules, row, tmp_path):
    rows = [row("Mn", "fgen", 0, [candidate(-1.0, 8.0), candidate(-1.1, 8.0)])]
    none = modules["experiments_rows"].Yardstick()
    settings = {"final": "chgnet", "max_atoms": 50, "structures": 2, "hours": None}
    settings |= {"runs_planned": 3, "runs_begun": 1, "runs_finished": 1}
    found = {"tables": modules["experiments_tables"].tables(rows, none), "settings": settings, "runs": rows}
    found |= {"yardstick": none.as_dict(), "written": "today", "command": "x"}
    text = modules["experiments_tables"].markdown(found)
    assert "There is no yardstick" in text
    assert "| Mn | -1.1000 (-8.93) |" in text
    assert "| Mn | -1.1000 | no yardstick | no yardstick | - | - |" in text
    assert "1 of 3 runs finished" in text
    assert "Table 4" not in text
    modules["experiments_tables"].draw(rows, none, tmp_path / "experiments.json")
    assert {path.name for path in tmp_path.iterdir()} == {"experiments_cpu.png", "experiments_structures.png"}


def test_yardstick_files(modules, tmp_path):
    rows = modules["experiments_rows"]
    values = {
        "known_structures": {
            "NaFe3Al6B3Si6O30F_buergerite_R3m": {"energy_per_atom": -8.0},
            "SrTiO3_perovskite": {"energy_per_atom": -8.4},
            "COD_Mn-Manganese-alpha": {"energy_per_atom": -9.1},
        },
        "published_fuse2_structures": {"Mn": {"mlgen_ChgNET": {"energy_per_atom": -9.0}}},
    }
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    second.write_text(json.dumps(values))
    values["known_structures"]["COD_Mn-Manganese-alpha"]["energy_per_atom"] = -9.2
    first.write_text(json.dumps(values))
    found = rows.read_yardstick(first, second, tmp_path / "absent.json")
    assert found.lowest_known("Mn") == -9.2
    assert found.lowest_known("Si6Al6B3Fe3NaO30F") == -8.0
    assert found.published == {"Mn": {"mlgen-chgnet": -9.0}}
    assert found.lowest_known("WCl2") is None
    assert rows.reference_files(tmp_path, ["Mn"]) == []


def test_options_stand_for_searches(modules):
    experiments = modules["experiments"]
    options = experiments.parse(["--structures", "10", "--max-atoms", "8", "--compounds", "Mn", "YWB4", "--seeds", "0"])
    cases = experiments.cases_of(options)
    assert [case.recipe for case in cases if case.formula == "Mn"] == [
        *("fgen", "fgen-spp", "mlgen", "mlgen-spp", "mlgen-chgnet"),  # fgen-chgnet is fgen before a last tier CHGNet
    ]
    small, large = cases[0].config, cases[-1].config
    assert (small.max_atoms, small.generator.initial_structures, small.stop.max_structures) == (8, 5, 10)
    assert large.max_atoms == 8
    assert large.pool.rank_tier.calculator == "chgnet"
    again = experiments.cases_of(experiments.parse(["--structures", "10", "--max-atoms", "8", "--compounds", "Mn"]))
    assert cases[0].config.search_id == again[0].config.search_id
    assert len(again) == 15
    more = experiments.parse(["--structures", "20", "--initial", "5", "--max-atoms", "8", "--compounds", "Mn"])
    assert experiments.cases_of(more)[0].config.search_id == small.search_id  # a larger budget extends it
    tiny = experiments.parse(["--compounds", "YWB4", "--max-atoms", "4", "--recipes", "fgen"])
    assert experiments.cases_of(tiny)[0].config.max_atoms == 6
    assert experiments.cases_of(tiny)[0].config.generator.initial_structures == 25
