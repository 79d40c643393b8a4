"""CPU time of relaxations."""

import subprocess
import sys

import pytest

from fuse_flows.config import TierConfig
from fuse_flows.relax.clock import cpu_clock
from fuse_flows.relax.second_pass import joined
from fuse_flows.relax.tiers import relax_all_through, relax_many


def test_time_of_children_counts():
    begun = cpu_clock()
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    assert cpu_clock() - begun > 0.02


def test_every_result_has_its_cpu_time(rocksalt):
    tier = TierConfig(calculator="lj", calculator_kwargs={"epsilon": 0.1, "sigma": 2.0}, max_steps=3)
    results = [result for results in relax_all_through([rocksalt(), rocksalt()], [tier, tier]) for result in results]
    results += relax_many([rocksalt()], tier, single=True)
    assert all(result.cpu_seconds > 0 for result in results)
    assert all(result.cpu_seconds < 60 for result in results)
    twice = joined(results[0], results[1])
    assert twice.cpu_seconds == pytest.approx(results[0].cpu_seconds + results[1].cpu_seconds)
