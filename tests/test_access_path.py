"""The plan: which way a group is searched."""

from __future__ import annotations

import numpy as np
import pytest

from mrlstore.index.group import Group, GroupIndex
from mrlstore.planning import access_path
from mrlstore.planning.access_path import Effort
from mrlstore.planning.calibration_curves import CalibrationCurves

ROWS = 100_000
CALIBRATED = Effort("default", 384, 60, beam_ratio=0.13, stop_margin=3.5)


def group(rows: int = ROWS, *, graph: bool = True, index: bool = True) -> Group:
    """A group of so many rows, of which nothing but the sizes is true."""
    none = np.zeros((rows, 0), np.uint8)
    links = np.zeros((rows, 0), np.uint32) if graph else None
    entries = np.zeros(0, np.uint32)
    held = GroupIndex(768, none, None, None, links, entries, none, entries) if index else None
    return Group(none.view(np.float16), np.zeros(rows, np.float32), np.zeros(rows, np.int64), held)


@pytest.mark.parametrize(
    ("allowed", "way"),
    [(10, "scan"), (ROWS // 10, "scan"), (ROWS // 5, "filtered walk"), (ROWS // 2, "filtered walk"),
     (ROWS, "walk")],
)  # fmt: skip
def test_few_rows_are_scanned_and_many_walked(allowed: int, way: str) -> None:
    assert access_path.choose(group(), allowed, CALIBRATED) == way


def test_the_way_is_never_less_than_the_effort_asks_for_or_the_group_has() -> None:
    assert access_path.choose(group(), ROWS, Effort("target", 10, 10, "scan")) == "scan"
    assert access_path.choose(group(), ROWS, Effort("target", 10, 10, "exact")) == "exact"
    assert access_path.choose(group(graph=False), ROWS, CALIBRATED) == "scan"
    assert access_path.choose(group(index=False), ROWS, CALIBRATED) == "exact"


def test_walks_are_measured_as_walks() -> None:
    always_walk = Effort("calibration", 384, 60, beam_ratio=0.13, always_walk=True)
    assert access_path.choose(group(), ROWS // 10, always_walk) == "filtered walk"


def test_where_nothing_was_measured_filters_take_more_effort_too() -> None:
    effort = CalibrationCurves().effort(10, None)
    half, tenth = effort.at(0.2), effort.at(0.1)
    assert effort.ef < half.ef < tenth.ef and half.lost_ratio > 0
    assert access_path.choose(group(), ROWS // 5, half) == "filtered walk"
    assert access_path.choose(group(), ROWS // 10, tenth) == "scan"
