"""A search in one file: the same in another database, gone on with there, and refused when it is not what it says."""

import json
import zipfile

import pytest
from fireworks import FWorker
from fireworks.core.rocket_launcher import launch_rocket

from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError, DatabaseError
from fuse_flows.flows.local import extend, submit, work
from fuse_flows.store import Search
from fuse_flows.store.archive import read_archive, write_archive
from fuse_flows.store.queries import candidates, find_search
from fuse_flows.store.searches import search_document

pytestmark = pytest.mark.mongo


def emt_config(most):
    return load_config(
        formula="Cu3Au",
        max_atoms=4,
        seed=5,
        generator={"initial_structures": 3},
        stop={"max_structures": most},
        execution={"structures_per_job": 3, "steps_per_job": 3},
        tiers=[{"calculator": "emt", "max_steps": 40, "fmax": 0.2, "smax": 2}],
    )


def rewrite(source, target, **changes):
    """Copy an archive with some of its files replaced."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            after.writestr(name, changes.get(name.split(".")[0], before.read(name)))
    return target


@pytest.fixture(name="archive")
def _archive(search, tmp_path):
    file = tmp_path / "search.zip"
    write_archive(search.connection, search.search_id, file)
    return file


def test_same_search_in_another_database(search, archive, connection_factory):
    elsewhere = connection_factory()
    done = read_archive(elsewhere, archive)
    mine = {"metadata.search_id": search.search_id}  # others may be in the database, too
    assert done == (search.search_id, search.connection.outputs.count_documents(mine), 0)
    copy = Search("Cu3Au", elsewhere)
    assert copy.candidates(documents=True) == search.candidates(documents=True)
    assert list(elsewhere.candidates.find({}, sort=[("candidate_id", 1)])) == list(
        search.connection.candidates.find({"search_id": search.search_id}, sort=[("candidate_id", 1)])
    )
    assert copy.config == search.config
    assert copy.unique() == search.unique()
    assert [state.moves for state in search_document(elsewhere, copy.search_id).states] == [
        state.moves for state in search_document(search.connection, search.search_id).states
    ]
    assert read_archive(elsewhere, archive) == (search.search_id, 0, done.written)


def test_reading_that_was_cut_off_is_completed(search, archive, connection_factory):
    elsewhere = connection_factory()
    number = read_archive(elsewhere, archive).written
    elsewhere.outputs.delete_one({"output.kind": "steps"})
    assert read_archive(elsewhere, archive)[1:] == (1, number - 1)
    assert Search("Cu3Au", elsewhere).candidates(documents=True) == search.candidates(documents=True)


def test_imported_search_is_gone_on_with(connection_factory, tmp_path):
    here, elsewhere, undisturbed = connection_factory(), connection_factory(), connection_factory()
    short, long = emt_config(6), emt_config(12)
    for connection, config in ((here, short), (undisturbed, long)):
        submit(connection, config)
        work(connection, config.search_id)
    write_archive(here, short.search_id, tmp_path / "a.zip")
    read_archive(elsewhere, tmp_path / "a.zip")
    assert not extend(elsewhere, short)
    assert extend(elsewhere, long)
    work(elsewhere, long.search_id)

    def sequence(connection):
        return [
            (d["candidate_id"], d["energy_per_atom"], d["accepted"]) for d in candidates(connection, long.search_id)
        ]

    assert sequence(elsewhere) == sequence(undisturbed)
    with pytest.raises(DatabaseError, match="has other results"):
        read_archive(undisturbed, tmp_path / "a.zip")


def test_unfinished_search_is_stopped_where_it_was_imported(connection_factory, tmp_path):
    here, elsewhere = connection_factory(), connection_factory()
    config = emt_config(12)
    submit(here, config)
    work_until(here, config.search_id, 7)
    assert 7 <= len(candidates(here, config.search_id)) < 12
    write_archive(here, config.search_id, tmp_path / "a.zip")
    read_archive(elsewhere, tmp_path / "a.zip")
    assert search_document(elsewhere, config.search_id).status == "stopped"
    assert extend(elsewhere, config)
    work(elsewhere, config.search_id)
    assert search_document(elsewhere, config.search_id).status == "finished"


def work_until(connection, search_id, number):
    """Run jobs until so many candidates are stored."""
    worker = FWorker(query={"spec.search_id": search_id})
    while len(candidates(connection, search_id)) < number:
        assert launch_rocket(connection.launchpad, worker, strm_lvl="CRITICAL")


def test_archive_is_text_and_says_what_it_is(search, archive, tmp_path):
    with zipfile.ZipFile(archive) as opened:
        assert sorted(opened.namelist()) == ["config.yaml", "documents.jsonl", "manifest.json"]
        manifest = json.loads(opened.read("manifest.json"))
        assert manifest["search_id"] == search.search_id
        assert len(opened.read("documents.jsonl").splitlines()) == manifest["documents"]
        config = tmp_path / "config.yaml"
        config.write_bytes(opened.read("config.yaml"))
    assert load_config(config).search_id == search.search_id
    assert list(tmp_path.glob(".*")) == []


def test_search_that_has_not_begun_is_not_exported(connection, tmp_path):
    submit(connection, emt_config(6))
    with pytest.raises(DatabaseError, match=r"first population of .* is not complete"):
        write_archive(connection, emt_config(6).search_id, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


def damaged_documents(lines, change):
    """Return documents of which the first has been changed, as text."""
    first = json.loads(lines[0])
    change(first)
    return b"\n".join([json.dumps(first).encode(), *lines[1:]]) + b"\n"


CHANGES = {
    "other search": (lambda doc: doc["output"].update(search_id="MgO-0"), "another search"),
    "foreign class": (
        lambda doc: doc["output"].update(extra={"@module": "os", "@class": "system"}),
        "names classes of os",
    ),
    "code": (lambda doc: doc["output"].update(kind={"$code": "f()"}), "not valid"),
    "field": (lambda doc: doc["output"].update(surprise=1), "surprise"),
    "no index": (lambda doc: doc.pop("index"), "index"),
    "candidate": (lambda doc: doc["output"]["candidates"][0].update(outcome="GOOD"), "outcome"),
    "value": (lambda doc: doc["output"]["candidates"][0].update(energy_per_atom=-9.0), "damaged"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_documents_are_refused(archive, connection, tmp_path, name):
    change, reason = CHANGES[name]
    with zipfile.ZipFile(archive) as opened:
        lines = opened.read("documents.jsonl").splitlines()
    lines.sort(key=lambda line: b'"kind": "population"' not in line)
    bad = rewrite(archive, tmp_path / "bad.zip", documents=damaged_documents(lines, change))
    with pytest.raises(ConfigError, match=reason):
        read_archive(connection, bad)
    assert connection.outputs.count_documents({}) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"manifest": b"{}"}, "damaged manifest"),
        ({"manifest": b'{"format": "fuse-flows search", "search_id": "MgO-1", "version": 9}'}, "version 9"),
        ({"documents": b"not json\n"}, "document 1 is not valid"),
        ({"documents": b"[1]\n"}, "document 1 is not valid"),
        ({"documents": b""}, "damaged"),
    ],
)
def test_other_damage_is_refused(archive, connection, tmp_path, changes, reason):
    bad = rewrite(archive, tmp_path / "bad.zip", **changes)
    with pytest.raises(ConfigError, match=reason):
        read_archive(connection, bad)
    assert connection.outputs.count_documents({}) == 0


def test_files_of_other_kinds_are_refused(connection, tmp_path):
    file = tmp_path / "a.zip"
    with pytest.raises(ConfigError, match="does not exist"):
        read_archive(connection, file)
    file.write_text("text")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_archive(connection, file)
    zipfile.ZipFile(file, "w").close()
    with pytest.raises(ConfigError, match="is no archive of a search"):
        read_archive(connection, file)
    with pytest.raises(DatabaseError):
        find_search(connection, "Cu3Au")
