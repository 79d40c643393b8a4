"""Pictures of a real search show what its documents hold."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from fuse_flows.analysis.costs import cost_figure, moves_figure
from fuse_flows.analysis.export import write_pictures
from fuse_flows.analysis.pictures import energy_figure, volume_figure, walkers_figure
from fuse_flows.analysis.powder import powder_figure, powder_pattern
from fuse_flows.store.frames import candidate_frame, tier_frame

pytestmark = pytest.mark.mongo


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def points(axes):
    return sorted(tuple(point) for dots in axes.collections for point in np.asarray(dots.get_offsets()))


def test_energies_sources_and_temperatures(search):
    frame = search.candidates()
    figure = energy_figure(frame, "$not a formula$ <b>")
    above, below = figure.axes
    relaxed = frame[frame["energy_per_atom"].notna()]
    assert len(points(above)) == len(frame)
    lowest = relaxed["energy_per_atom"].min()
    seen = {(number, energy) for number, energy in points(above) if energy <= lowest + 1.9}
    expected = relaxed[relaxed["energy_per_atom"] <= lowest + 1.9]
    assert seen >= set(zip(expected["number"], expected["energy_per_atom"], strict=True))
    assert {"file", "random", "failed", "lowest so far"} <= set(legend(above))
    assert any(label.startswith("move") for label in legend(above))
    drawn = np.concatenate([line.get_ydata() for line in below.lines])
    assert drawn.tolist() == frame["temperature"].dropna().tolist()
    figure.savefig("energies.svg")
    texts = [element.tag for element in ET.parse("energies.svg").iter()]  # noqa: S314 - written a line above
    assert "{http://www.w3.org/2000/svg}b" not in texts


def test_volumes_by_formula_units(search):
    frame = search.candidates()
    figure = volume_figure(frame)
    left, right = figure.axes
    relaxed = frame[frame["energy_per_atom"].notna()]
    near = relaxed[relaxed["energy_per_atom"] <= relaxed["energy_per_atom"].min() + 2]
    expected = sorted(zip(near["volume"] / near["formula_units"], near["energy_per_atom"], strict=True))
    np.testing.assert_allclose(points(left), expected)
    np.testing.assert_allclose(points(right), sorted(zip(near["density"], near["energy_per_atom"], strict=True)))
    assert legend(right) == [f"{units:.0f}" for units in sorted(near["formula_units"].unique())]


def test_walkers(search):
    frame = search.candidates()
    above, below = walkers_figure(frame).axes
    assert legend(above) == ["0", "1"]
    ends = [line.get_ydata()[-1] for line in above.lines]
    lowest = frame.groupby("walker")["energy_per_atom"].min().tolist()
    np.testing.assert_allclose(ends, np.clip(lowest, None, min(lowest) + 2))
    assert below.lines[0].get_ydata()[-1] == sum(energy <= min(lowest) + 1e-3 for energy in lowest)


def test_moves(search):
    moves = search.moves()
    (axes,) = moves_figure(moves).axes
    widths = [sum(bar.get_width() for bar in bars) for bars in axes.containers]
    rejected = (moves["proposed"] - moves["accepted"]).sum()
    assert widths == [moves["accepted"].sum(), rejected, moves["failed"].sum()]


def test_costs(search):
    tiers = search.tiers()
    left, middle, right = cost_figure(tiers).axes
    total = sum(bar.get_height() for bars in left.containers for bar in bars)
    assert total == pytest.approx(tiers["seconds"].sum())
    assert [label.get_text() for label in right.get_xticklabels()] == ["1: emt", "2: emt"]
    assert middle.get_yscale() == "log"


def test_pictures_of_nothing_say_so():
    empty = candidate_frame([])
    for draw in (energy_figure, volume_figure, walkers_figure):
        assert "no structure has relaxed" in draw(empty).axes[0].texts[0].get_text()
    assert "no structure has been relaxed" in cost_figure(tier_frame([])).axes[0].texts[0].get_text()


def test_files(search, tmp_path):
    paths = write_pictures(tmp_path / "pictures", search)
    assert {path.name for path in paths} == {
        f"{name}.{suffix}" for name in ("energies", "volumes", "walkers", "moves", "costs") for suffix in ("svg", "png")
    }
    assert all(path.stat().st_size > 5000 for path in paths)


def test_powder_pattern_of_gold_like_cell(search):
    structure = search.structure(search.best(1)[0]["candidate_id"])
    pattern = powder_pattern(structure)
    assert pattern["intensity"].max() == pytest.approx(100)
    wavelength = 1.54184
    bragg = 2 * np.degrees(np.arcsin(wavelength / 2 / pattern["d"]))
    np.testing.assert_allclose(pattern["two_theta"], bragg, atol=1e-6)
    reciprocal = structure.lattice.reciprocal_lattice_crystallographic
    for row in pattern.itertuples():
        assert reciprocal.d_hkl is not None
        assert structure.lattice.d_hkl([int(index) for index in row.hkl.split()]) == pytest.approx(row.d, rel=1e-3)
    assert len(powder_figure(pattern).axes[0].texts) == min(8, len(pattern))
