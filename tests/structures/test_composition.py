from __future__ import annotations

import numpy as np
import pytest

from fuse_flows.config import make_config
from fuse_flows.errors import FuseFlowsError
from fuse_flows.structures.composition import CompositionError, FormulaUnit


def test_a_formula_unit_knows_its_atoms_in_the_order_of_the_formula():
    unit = FormulaUnit.from_config(make_config({"formula": "Ca3Ti2O7"}))
    assert unit.counts == (("Ca", 3), ("Ti", 2), ("O", 7))
    assert unit.formula == "Ca3Ti2O7"
    assert unit.n_atoms == 12
    assert unit.numbers.tolist() == [20] * 3 + [22] * 2 + [8] * 7
    assert unit.mass == pytest.approx(327.96, abs=0.02)


def test_formula_units_are_hashable_and_compare_by_value():
    one, other = (FormulaUnit.from_counts({"Mg": 1, "O": 1}) for _ in range(2))
    assert one == other
    assert len({one, other}) == 1
    assert one != FormulaUnit.from_counts({"Mg": 1, "O": 1}, {"Mg": 2, "O": -2})


@pytest.mark.parametrize(
    ("formula", "most"),
    [("Ca3Ti2O7", 4), ("CoAs2", 16), ("Mn", 50), ("Si6Al6B3Fe3NaO30F", 1), ("Li4OBrCl", 7), ("Y2Ti2O7", 4)],
)
def test_number_of_formula_units_in_fifty_atoms(formula, most):
    unit = FormulaUnit.from_config(make_config({"formula": formula}))
    assert list(unit.formula_units(50)) == list(range(1, most + 1))
    assert not unit.formula_units(unit.n_atoms - 1)


def test_whole_formula_units_are_counted_in_any_order_of_the_atoms():
    unit = FormulaUnit.from_counts({"Sr": 1, "Ti": 1, "O": 3})
    numbers = np.random.default_rng(1).permutation(np.tile(unit.numbers, 4))
    assert unit.count_in(numbers) == 4


@pytest.mark.parametrize("numbers", [[], [12], [12, 8, 8], [12, 12, 8], [12, 8, 1], [12, 8, 92], [8, 8]])
def test_other_compositions_are_refused(numbers):
    unit = FormulaUnit.from_counts({"Mg": 1, "O": 1})
    with pytest.raises(CompositionError, match="whole number of formula units MgO") as caught:
        unit.count_in(numbers)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FuseFlowsError)


def test_an_empty_formula_unit_is_refused():
    with pytest.raises(CompositionError):
        FormulaUnit(())
