"""Foreign values to tensors: nothing is cut off in silence."""

import numpy as np
import pytest
import torch

from pyg_relaxed.data import build_graph, encode


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("z", [1.0, 6.5], r"'z' must be integers \(got 6.5 at \[1\]\)"),
        ("tags", np.array([0.5]), r"'tags' must be integers \(got 0.5 at \[0\]\)"),
        ("spin", 2.5, r"'spin' must be integers \(got 2.5 at \[\]\)"),
        ("tags", [np.nan], "'tags' must be integers"),
        ("fixed", [[0.0, 0.3, 1.0]], r"'fixed' must be true or false \(got 0.3"),
        ("energy", 1 + 2j, r"'energy' must be real \(got \[\(1\+2j\)\]\)"),
    ],
)
def test_values_that_are_of_no_such_kind_are_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        encode(name, value, torch.float32)


@pytest.mark.parametrize(("name", "value"), [("tags", [2.0, -1.0]), ("spin", 3.0), ("fixed", [[1.0, 0.0, 1.0]])])
def test_whole_numbers_may_be_floats(name, value):
    assert encode(name, value, torch.float32).tolist() in (value, [value])


def test_atomic_numbers_between_two_elements_are_refused():
    with pytest.raises(ValueError, match="'z' must be integers"):
        build_graph([6.5], [[0.0, 0.0, 0.0]], torch.zeros(3, 3), [False] * 3)
