from pathlib import Path

import pytest
from fireworks import fw_config
from maggma.stores import MongoStore

from fuse_flows.settings import settings
from fuse_flows.store.check import config_sources, round_trip

pytestmark = pytest.mark.mongo


def contents(connection):
    """Return every document of the database by collection."""
    database = connection.database
    names = [found["name"] for found in database.list_collections(filter={"type": "collection"})]
    documents = {name: list(database[name].find({})) for name in names if not name.startswith("system.")}
    return {name: found for name, found in documents.items() if found}


def test_every_part_works_and_nothing_is_left(connection):
    before = contents(connection)
    checks = round_trip(connection)
    assert [check.name for check in checks] == [
        *("LaunchPad fireworks", "LaunchPad workflows", "LaunchPad launches"),
        *("JobStore documents", "JobStore data"),
    ]
    assert all(check.ok for check in checks), checks
    assert contents(connection) == before


def test_part_that_fails_is_named(connection):
    connection.database.command("collMod", "launches", validator={"never": 1}, validationLevel="strict")
    impatient = {"serverSelectionTimeoutMS": 50}
    broken = MongoStore("none", "blobs", host="127.0.0.1", port=27998, mongoclient_kwargs=impatient)
    broken.key = "blob_uuid"
    broken.connect()
    before = contents(connection)
    connection.jobstore.additional_stores["broken"] = broken
    checks = {check.name: check for check in round_trip(connection)}
    del connection.jobstore.additional_stores["broken"]
    assert checks["LaunchPad fireworks"].ok
    assert not checks["LaunchPad launches"].ok
    assert "WriteError" in checks["LaunchPad launches"].detail
    assert not checks["JobStore broken"].ok
    assert "ServerSelectionTimeoutError" in checks["JobStore broken"].detail
    assert contents(connection) == before


def test_nothing_configured():
    sources = dict(config_sources())
    assert sources["FireWorks"] == "none: built-in defaults"
    assert sources["LaunchPad file"] == "none: embedded MongoDB"
    assert "does not exist" in sources["jobflow"]


def test_files_that_won(tmp_path, monkeypatch):
    for name in ("FW_config.yaml", "other.yaml", "jobflow.yaml"):
        Path(name).write_text("{}")
    monkeypatch.setenv("FW_CONFIG_FILE", str(tmp_path / "other.yaml"))
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", str(tmp_path / "jobflow.yaml"))
    monkeypatch.setattr(fw_config, "LAUNCHPAD_LOC", "/home/me/my_launchpad.yaml")
    sources = dict(config_sources())
    assert sources["FireWorks"] == f"{tmp_path / 'FW_config.yaml'}, which overrides {tmp_path / 'other.yaml'}"
    assert sources["LaunchPad file"] == "/home/me/my_launchpad.yaml"
    assert sources["jobflow"] == str(tmp_path / "jobflow.yaml")
    monkeypatch.setenv("FUSE_FLOWS_LAUNCHPAD", "/elsewhere.yaml")
    settings.cache_clear()
    assert dict(config_sources())["LaunchPad file"] == "/elsewhere.yaml"


def test_missing_file_of_fireworks_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("FW_CONFIG_FILE", str(tmp_path / "none.yaml"))
    assert "does not exist" in dict(config_sources())["FireWorks"]
