"""The table of the benchmark of pre-relaxation, on rows made by hand."""

import importlib.util
import json
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "pre_relaxation_table.py"
SPEC = importlib.util.spec_from_file_location("pre_relaxation_table", FILE)
table = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(table)


def row(without, with_spp, spp_energy=-1.0, formula="MgO"):
    """Row of two chains, each given by outcome, energy, calls and CPU seconds."""
    keys = ("outcome", "energy", "calls", "cpu")
    one = dict(zip(keys, without, strict=True)) | {"first_energy": -3.0, "volumes": [100.0, 90.0]}
    two = dict(zip(keys, with_spp, strict=True)) | {"first_energy": -4.0, "volumes": [100.0, 80.0, 88.0]}
    return {"formula": formula, "without": one, "with": two | {"spp_energy": spp_energy}}


@pytest.fixture
def rows():
    return [
        row(("CONVERGED", -5.0, 100, 10.0), ("CONVERGED", -5.010, 40, 5.0), -2.0),
        row(("CONVERGED", -5.1, 60, 6.0), ("CONVERGED", -5.1004, 30, 3.0), -3.0),
        row(("CONVERGED", -4.9, 40, 4.0), ("CONVERGED", -4.880, 30, 4.0), -1.0),
        row(("EXPLODED", None, 50, 5.0), ("CONVERGED", -5.3, 100, 8.0), -4.0),
        row(("CONVERGED", -5.2, 50, 5.0), ("SPP EXPLODED", None, 0, 0.1), None),
    ]


def test_a_search_pays_for_failures_too(rows):
    compound = table.compare(rows)
    assert compound["ratio_calls"] == pytest.approx(200 / 300)
    assert compound["ratio_cpu"] == pytest.approx(20.1 / 30)
    assert compound["ratio_calls_both"] == pytest.approx(100 / 200)
    assert (compound["structures"], compound["both_converged"]) == (5, 3)
    assert compound["outcomes_with"] == {"CONVERGED": 4, "SPP EXPLODED": 1}


def test_energies_are_compared_where_both_converged_and_the_lowest_of_all(rows):
    compound = table.compare(rows)
    assert compound["mev_median"] == pytest.approx(-0.4)
    assert (compound["share_lower"], compound["share_same"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert compound["mev_lowest"] == pytest.approx(-100.0)
    assert compound["fall_without"] == pytest.approx(2.05)
    assert compound["fall_with"] == pytest.approx(1.0552)


def test_volumes_are_those_of_each_tier(rows):
    compound = table.compare(rows)
    assert compound["volume_spp"] == pytest.approx(0.8)
    assert compound["volume_then"] == pytest.approx(1.1)
    assert compound["volume_without"] == pytest.approx(0.9)


def test_ranks_are_those_of_structures_that_converged(rows):
    compound = table.compare(rows)
    assert (compound["spearman"], compound["spearman_of"]) == (pytest.approx(1.0), 4)
    assert table.spearman([(1.0, 2.0), (2.0, 1.0)]) is None
    assert table.spearman([(1.0, 2.0), (1.0, 1.0), (1.0, 3.0)]) is None


def test_compounds_count_the_same_however_long_they_take(rows):
    slow = [row(("CONVERGED", -5.0, 1000, 100.0), ("CONVERGED", -5.0, 1000, 100.0), formula="YWB4") for _ in range(5)]
    whole = table.summarise([*rows, *slow])["overall"]
    assert whole["ratio_calls"] == pytest.approx((200 / 300) ** 0.5)
    low, high = whole["interval_calls"]
    assert low < whole["ratio_calls"] < high


def test_the_interval_closes_when_all_structures_are_alike():
    alike = [row(("CONVERGED", -5.0, 50, 5.0), ("CONVERGED", -5.0, 25, 2.5)) for _ in range(6)]
    assert table.bootstrap([alike], "calls", seed=0) == pytest.approx([0.5, 0.5])


def test_there_is_a_table_whatever_is_missing(rows):
    for some in (rows, rows[3:], rows[4:], []):
        result = json.loads(json.dumps(table.summarise(some)))
        printed = table.lines(result)
        assert len(printed) == 1 + 2 * (len(result["compounds"]) + 1) + 3
    assert "0.67" in table.lines(table.summarise(rows))[-3]


def test_no_interval_from_a_handful(rows):
    assert table.summarise(rows)["overall"]["interval_cpu"] is not None
    assert table.summarise(rows[1:])["overall"]["interval_cpu"] is None


def test_pairs_measured_in_one_run_are_counted(rows):
    for number, one in enumerate(rows[1:]):
        one["without"]["run"], one["with"]["run"] = "first", "second" if number else "first"
    assert table.summarise(rows)["overall"]["from_one_run"] == 1


def test_calls_at_the_same_energy(rows):
    assert table.compare(rows)["ratio_calls_equal"] is None  # no traces
    assert table.calls_to_level([[-1.0, -2.0, -3.0], [-1.0, -5.0]], -3.5) == 4
    assert table.calls_to_level([[-1.0, -2.0, -3.0], [-1.0, -5.0]], -4.0) == 5
    assert table.calls_to_level([[-1.0]], -2.0) is None
    for one in rows[:3]:
        one["without"]["trace"] = [-3.0, -4.0, -4.5, one["without"]["energy"]]
        one["with"]["trace"] = [-4.6, one["with"]["energy"] - 0.1]
    assert table.compare(rows)["ratio_calls_equal"] == pytest.approx(6 / 12)
