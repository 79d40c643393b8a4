"""Tables, pictures and files of candidates."""

import csv

import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from fuse_flows.analysis.export import write_results
from fuse_flows.analysis.pictures import energy_figure
from fuse_flows.analysis.tables import best_rows, candidate_frame
from fuse_flows.config import SearchConfig
from fuse_flows.relax.result import Outcome, RelaxResult
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.candidate import CandidateDoc
from fuse_flows.search.propose import Proposal

CONFIG = SearchConfig(formula="MgO", max_atoms=8)


def candidate(step, energy, edge=4.2):
    structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(edge), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    outcome = Outcome.TOO_CLOSE if energy is None else Outcome.CONVERGED
    total = None if energy is None else energy * 8
    numbers = {"fmax": 0.01, "smax": 0.1, "steps": 5, "seconds": 1.5}
    result = RelaxResult(outcome, structure, total, **numbers, engine="emt", engine_version="1")
    source = "move" if step else "random"
    proposal = Proposal(f"{step:016x}", 0, step, 0, source, structure)
    names = {"search_id": CONFIG.search_id, "formula": "MgO", "atoms_per_unit": 2}
    document = to_mongo(CandidateDoc.from_proposal(proposal, [result], **names))
    return document | {"accepted": step % 2 == 1 if step else None}


@pytest.fixture(name="candidates")
def _candidates():
    return [candidate(2, -5.5), candidate(0, -5.0, 4.4), candidate(1, None), candidate(3, -5.9)]


def test_document_of_a_success(candidates):
    document = candidates[0]
    assert document["formula_pretty"] == "MgO"
    assert document["chemsys"] == "Mg-O"
    assert (document["nsites"], document["n_atoms"], document["formula_units"]) == (8, 8, 4)
    assert (document["space_group"], document["space_group_number"], document["space_group_number_tight"]) == (
        "Fm-3m",
        225,
        225,
    )
    assert document["energy"] == pytest.approx(8 * document["energy_per_atom"])
    assert document["tiers"][0]["outcome"] == "CONVERGED"


def test_document_of_a_failure_has_no_energy(candidates):
    document = candidates[2]
    assert document["outcome"] == "TOO_CLOSE"
    assert document["energy"] is document["energy_per_atom"] is document["space_group"] is None
    assert document["structure"]["sites"]


def test_document_without_a_structure():
    proposal = Proposal("0" * 16, 0, 1, 0, "move", None, reason="no move is possible")
    names = {"search_id": CONFIG.search_id, "formula": "MgO", "atoms_per_unit": 2}
    document = to_mongo(CandidateDoc.from_proposal(proposal, [], **names))
    assert document["outcome"] == "NOT_GENERATED"
    assert document["reason"] == "no move is possible"
    assert document["structure"] is None


def test_frame_is_numbered_in_the_order_of_the_search(candidates):
    frame = candidate_frame(candidates)
    assert frame["number"].tolist() == [1, 2, 3, 4]
    assert frame["step"].tolist() == [0, 1, 2, 3]
    assert frame["energy_per_atom"].isna().tolist() == [False, True, False, False]
    assert candidate_frame([]).empty


def test_best_rows_are_relative_to_the_first(candidates):
    rows = best_rows([candidates[3], candidates[0]])
    assert [row["rank"] for row in rows] == [1, 2]
    assert [row["above_best_mev"] for row in rows] == pytest.approx([0.0, 400.0])
    assert [row["copies"] for row in best_rows([candidates[3] | {"copies": 7}, candidates[0]])] == [7, 1]


def test_figure_shows_each_kind_of_candidate(candidates):
    axes = energy_figure(candidate_frame(candidates), "MgO").axes[0]
    legend = {text.get_text() for text in axes.get_legend().get_texts()}
    assert legend == {"random", "move, rejected", "move, accepted", "failed", "lowest so far"}
    lowest = axes.lines[0].get_ydata()
    assert list(lowest) == [-5.0, -5.5, -5.9]


def test_figure_of_failures_only_says_so(candidates):
    axes = energy_figure(candidate_frame([candidates[2]])).axes[0]
    assert "no structure" in axes.texts[0].get_text()


def test_files_hold_what_the_documents_hold(candidates, tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "old.cif").write_text("from an earlier run")
    paths = write_results(tmp_path, candidates, [candidates[3], candidates[0]], "MgO")
    assert all(path.exists() for path in paths)
    assert {path.name for path in (tmp_path / "best").iterdir()} == {path.name for path in paths[2:]}
    assert [path.name for path in paths[2:]] == [f"01_MgO_225_{3:016x}.cif", f"02_MgO_225_{2:016x}.cif"]
    again = Structure.from_file(paths[2])
    assert len(again) == 8
    assert StructureMatcher().fit(again, Structure.from_dict(candidates[3]["structure"]))
    with paths[0].open() as file:
        assert [row["energy_per_atom"] for row in csv.DictReader(file)] == ["-5.0", "", "-5.5", "-5.9"]
