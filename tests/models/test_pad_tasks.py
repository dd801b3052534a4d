"""Rows one below the other become one line a task."""

import numpy as np
import pytest

import bayesfield as bf

TASK = np.array([2, 0, 2, 2, 0])
Y = np.arange(5.0)
X = np.stack([Y, -Y], 1)


def test_rows_keep_their_order_within_a_task():
    padded = bf.pad_tasks(TASK, x=X, y=Y)
    np.testing.assert_array_equal(padded["y"], [[1, 4, 0], [0, 0, 0], [0, 2, 3]])
    np.testing.assert_array_equal(padded["seen"].sum(1), [2, 0, 3])
    np.testing.assert_array_equal(padded["x"][..., 1], -padded["y"])
    np.testing.assert_array_equal(np.sort(padded["y"][padded["seen"]]), Y)


def test_sizes_can_be_given():
    assert bf.pad_tasks(TASK, num_tasks=4, num_points=6, x=X)["x"].shape == (4, 6, 2)


BAD = {
    "a float": ({"task": Y}, TypeError, r"`task` to hold integers.*got float64"),
    "below zero": ({"task": TASK - 1}, ValueError, r"from 0 to 1; got -1 in row 1"),
    "too few tasks": ({"num_tasks": 2}, ValueError, r"from 0 to 1; got 2 in row 0"),
    "too short": ({"num_points": 2}, ValueError, r"at least 3, the rows of task 2; got 2"),
    "other rows": ({"y": Y[1:]}, ValueError, r"`y` of 5 rows, as `task` has; got shape \(4,\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    change, kind, message = BAD[case]
    arguments = {"task": TASK, "y": Y} | change
    with pytest.raises(kind, match=message):
        bf.pad_tasks(arguments.pop("task"), **arguments)
