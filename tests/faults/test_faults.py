"""A short selection of the fault campaign; benchmarks/faults.py runs the whole of it."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import harness

pytestmark = pytest.mark.mongo

SHORT = (
    ("crash point", "end: fireworks there, workflow not"),
    ("crash point", "checkout: before unlock (late)"),
    ("kill -9", "random moments 1"),
    ("SIGTERM", "after 5 structures"),
    ("time limit", "allocations of 9.0 s"),
    ("two workers", "one killed after 6"),
    ("disk full", "of the worker"),
)
FAULTS = {(fault.kind, fault.name): fault for fault in harness.all_faults(is_root=os.getuid() == 0)}


@pytest.fixture(name="expected", scope="module")
def _expected(mongo_server, tmp_path_factory):
    return harness.undisturbed(mongo_server, tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("key", [key for key in SHORT if key in FAULTS], ids=": ".join)
def test_disturbed_search_is_the_undisturbed_one(key, expected, mongo_server, tmp_path):
    row = harness.trial(FAULTS[key], mongo_server, tmp_path, expected)
    assert harness.is_harmless(row), row


def test_campaign_is_whole():
    assert len(FAULTS) >= 30
    assert len({name for kind, name in FAULTS if kind == "crash point" and "late" not in name}) >= 11
    assert {kind for kind, _ in FAULTS} >= {"kill -9", "mongod killed", "SIGTERM", "time limit", "two workers"}
