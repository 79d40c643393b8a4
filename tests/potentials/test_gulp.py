from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_flows.errors import ConfigError
from fuse_flows.potentials.gulp import read_gulp_library, write_gulp_library
from fuse_flows.potentials.gulp_format import parse_splines

R = np.linspace(0.5, 11.0, 106)
ELEMENTS = ("O", "Sr", "Ti")
PAIRS = [("O", "O"), ("O", "Sr"), ("O", "Ti"), ("Sr", "Sr"), ("Sr", "Ti"), ("Ti", "Ti")]
ROWS = "4.0 1.0\n1.0 2.0\n0.5 3.0\n0.1 4.0\n0.0 5.0\n"


@pytest.fixture
def values():
    return {pair: (n + 1) / R**2 - np.exp(-((R - 2 - n / 10) ** 2)) for n, pair in enumerate(PAIRS)}


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["spp.lib", "library"])
def test_round_trip(tmp_path, values, name):
    write_gulp_library(tmp_path / name, R, values)
    r, read = read_gulp_library(tmp_path / name, ELEMENTS)
    assert np.abs(r - R).max() < 1e-9
    assert list(read) == PAIRS
    assert max(np.abs(read[pair] - values[pair]).max() for pair in PAIRS) < 1e-9


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(-1e4, 1e6, allow_nan=False), min_size=5, max_size=40),
    st.floats(0.01, 2.0),
    st.floats(0.001, 0.5),
)
def test_round_trip_of_any_numbers(tmp_path_factory, energies, start, step):
    r = start + step * np.arange(len(energies))
    path = tmp_path_factory.mktemp("round") / "x.lib"
    write_gulp_library(path, r, {("Al", "O"): np.array(energies)})
    assert max(map(len, path.read_text().splitlines())) <= 80
    again, read = read_gulp_library(path)
    assert np.abs(again - r).max() < 1e-6
    assert np.abs(read["Al", "O"] - energies).max() < 1e-6


def test_layouts_orders_and_cases(tmp_path):
    for name in ("SR-TI/SR-TI.POT", "O-SR.POT", "ti-o.pot", "Sr-Sr/Sr-Sr.POT", "O-O/O-O.POT", "TI-TI.POT"):
        first, second = name.split("/")[-1].split(".")[0].split("-")
        write(tmp_path / name, f"spline cubic\n{first} core {second} core 0.0 0.0 5.0\n{ROWS}")
    write(tmp_path / "O-XX.POT", "no table of ours")
    write(tmp_path / "notes.txt", "no table of ours")
    r, values = read_gulp_library(tmp_path, ELEMENTS)
    assert r.tolist() == [1, 2, 3, 4, 5]
    assert list(values) == PAIRS
    assert all(table.tolist() == [4.0, 1.0, 0.5, 0.1, 0.0] for table in values.values())
    assert list(read_gulp_library(tmp_path, ["Sr"])[1]) == [("Sr", "Sr")]
    assert list(read_gulp_library(tmp_path)[1]) == PAIRS


def test_missing_pair_file_is_named(tmp_path):
    write(tmp_path / "SR-SR/SR-SR.POT", f"spline cubic\nSr Sr 5.0\n{ROWS}")
    with pytest.raises(ConfigError, match=r"lacks the pair files of O-O, O-SR \(looked for O-O\.POT") as caught:
        read_gulp_library(tmp_path, ["Sr", "O"])
    assert str(tmp_path) in str(caught.value)
    lib = write(tmp_path / "one.lib", f"spline cubic\nSr Sr 5.0\n{ROWS}")
    with pytest.raises(ConfigError, match=r"one\.lib has no table of O-O, O-Sr"):
        read_gulp_library(lib, ["Sr", "O"])
    with pytest.raises(ConfigError, match=r"holds no file A-B\.POT"):
        read_gulp_library(write(tmp_path / "empty" / "x", "").parent)
    with pytest.raises(ConfigError, match="does not exist"):
        read_gulp_library(tmp_path / "nowhere.lib")


def test_a_pair_in_both_orders_counts_once_if_it_agrees(tmp_path):
    table = f"spline cubic\nSr core O core 5.0\n{ROWS}"
    lib = write(tmp_path / "twice.lib", table + table.replace("Sr core O", "O core Sr"))
    assert read_gulp_library(lib)[1]["O", "Sr"].tolist() == [4.0, 1.0, 0.5, 0.1, 0.0]
    lib = write(tmp_path / "differ.lib", table + table.replace("4.0 1.0", "4.1 1.0"))
    with pytest.raises(ConfigError, match=r"O-Sr has different tables at .*differ\.lib:2 and .*differ\.lib:9"):
        read_gulp_library(lib)
    write(tmp_path / "SR-O.POT", table)
    write(tmp_path / "O-SR/O-SR.POT", table.replace("4.0 1.0", "4.1 1.0"))
    with pytest.raises(ConfigError, match=r"O-Sr has different tables at .*POT:2 and .*POT:2"):
        read_gulp_library(tmp_path)


def test_name_of_a_pair_file_must_be_true(tmp_path):
    write(tmp_path / "SR-TI.POT", f"spline cubic\nSr O 5.0\n{ROWS}")
    with pytest.raises(ConfigError, match=r"SR-TI\.POT holds a table of O-Sr"):
        read_gulp_library(tmp_path)


def test_units_reverse_comments_exponents_and_several_tables(tmp_path):
    text = (
        "# a comment\nspline cubic reverse kjmol inter\n"
        "O core O core 0.0 0.0 4.0 0\n1.0 9.6485332d+02\n2.0 96.485332 # ten, one\n3.0 0.0\n4.0 0\n\n"
        "O  TI  4.0\n1 0\n2 0\n3 0\n4 96.485332\n"
        "SPLINE kcal\nTi Ti 0 4.0\n23.060548 1.0\n0 2\n0 3\n0 4\n"
    )
    tables = {table.pair: table for table in parse_splines(write(tmp_path / "x.lib", text))}
    assert tables["O", "O"].energies == pytest.approx([10, 1, 0, 0])
    assert tables["O", "Ti"].energies == pytest.approx([0, 0, 0, 1])
    assert tables["Ti", "Ti"].energies == pytest.approx([1, 0, 0, 0])
    assert tables["O", "O"].source.endswith("x.lib:3")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "no spline section"),
        ("buck\nO O 1 2 3\n", 1, "'buck' is not understood"),
        (f"spline cubic hartree\nO O 5.0\n{ROWS}", 1, "'hartree' is no unit"),
        (f"spline cubic intra\nO O 5.0\n{ROWS}", 1, "'intra' limits"),
        (f"spline cubic\n{ROWS}", 2, "numbers without a header"),
        (f"{ROWS}", 1, "numbers without a header"),
        (f"spline cubic\nO Xx 5.0\n{ROWS}", 2, "'Xx' is no element"),
        (f"spline cubic\nO\n{ROWS}", 2, "must name two elements"),
        (f"spline cubic\nO core O shel 5.0\n{ROWS}", 2, "shells are not supported"),
        (f"spline cubic\nO O\n{ROWS}", 2, r"must end with: \[shift\]"),
        (f"spline cubic\nO O five\n{ROWS}", 2, "must be: atom1"),
        (f"spline cubic\nO O 0.5 5.0\n{ROWS}", 2, "may be a shift or a lower limit"),
        (f"spline cubic\nO O 0.5 0.0 5.0\n{ROWS}", 2, "shift of 0.5"),
        (f"spline cubic\nO O 0.0 5.0 5.0\n{ROWS}", 2, "leave no distance"),
        (f"spline cubic\nO O 5.0\n{ROWS}0.0 5.0\n", 8, "5 A does not rise above 5 A"),
        (f"spline cubic\nO O 5.0\n{ROWS}0.0 4.5\n", 8, "4.5 A does not rise"),
        (f"spline cubic\nO O 5.0\n{ROWS}0.0\n", 8, "two numbers: energy distance"),
        (f"spline cubic\nO O 5.0\n{ROWS}0.0 6.0 1.0\n", 8, "two numbers"),
        (f"spline cubic\nO O 5.0\n{ROWS}nan 6.0\n", 8, "'Nan' is no element"),
        (f"spline cubic\nO O 5.0\n{ROWS}0.0 ******\n", 8, "two numbers"),
        (f"spline cubic\nO O 3.0\n{ROWS}", 2, "3 points between its limits"),
        (f"spline cubic\nO O 5.0\n{ROWS}buck\n", 8, "no element and no spline section"),
    ],
)
def test_malformed_files_are_named_with_the_line(tmp_path, text, line, message):
    path = write(tmp_path / "bad.lib", text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_gulp_library(path)
    assert f"{path}:{line}: " in str(caught.value)


def test_binary_file(tmp_path):
    path = tmp_path / "bad.lib"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_gulp_library(path)


def test_other_grids_are_brought_to_one(tmp_path):
    def energy(r):
        return 1 / r**2 - 0.3 / r

    def section(pair, r):
        return f"spline cubic\n{pair} {r[-1]:.6f}\n" + "".join(f"{energy(x):.10f} {x:.10f}\n" for x in r)

    fine, short, uneven = np.linspace(0.8, 11, 1021), np.linspace(1.0, 6, 201), 0.9 * 1.01 ** np.arange(240)
    path = write(tmp_path / "x.lib", section("O O", fine) + section("Ti Ti", short) + section("O Ti", uneven))
    r, values = read_gulp_library(path)
    assert np.ptp(np.diff(r)) < 1e-9
    assert (r[0], r[-1]) == (pytest.approx(0.8), pytest.approx(11.0))
    assert values["O", "O"] == pytest.approx(energy(r), abs=1e-5)
    inside = (r >= 1.0) & (r <= 6.0)
    assert values["Ti", "Ti"][inside] == pytest.approx(energy(r[inside]), abs=1e-4)
    assert (values["Ti", "Ti"][r > 6.001] == 0).all()
    wall = values["Ti", "Ti"][r < 1.0]
    assert (np.diff(wall) < 0).all()
    assert wall[0] > energy(1.0)


def test_limits_cut_a_table(tmp_path):
    path = write(tmp_path / "x.lib", "spline cubic\nO O 0.0 1.5 5.0\n9 0\n5 1\n4 2\n3 3\n2 4\n1 5\n7 6\n")
    r, values = read_gulp_library(path)
    assert r.tolist() == [2, 3, 4, 5]
    assert values["O", "O"].tolist() == [4, 3, 2, 1]


def test_what_cannot_be_written(tmp_path, values):
    with pytest.raises(ConfigError, match="both orders"):
        write_gulp_library(tmp_path / "x.lib", R, {("O", "Sr"): R, ("Sr", "O"): R})
    with pytest.raises(ConfigError, match="O-Sr must be"):
        write_gulp_library(tmp_path / "x.lib", R, {("O", "Sr"): R[:-1]})
    with pytest.raises(ConfigError, match="finite"):
        write_gulp_library(tmp_path / "x.lib", R, {("O", "Sr"): R * np.nan})
    assert not (tmp_path / "x.lib").exists()
    write_gulp_library(tmp_path / "deep" / "library", R, values)
    assert (tmp_path / "deep" / "library" / "O-SR" / "O-SR.POT").is_file()
