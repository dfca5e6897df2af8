"""Forks: at every step of every operation, and beside threads whose timing nobody controls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.children import Child, children
from tests.concurrency import fork_bodies
from tests.scale import FULL, figure

SHARE = 1.0 if FULL else 0.01  # of the steps
FREE_S = figure(720, 4)


CASES = [(name, *kind) for name in fork_bodies.OPERATIONS for kind in fork_bodies.KINDS]


@pytest.mark.parametrize(
    ("name", "kind", "mode"),
    [
        case if number % 5 == 0 else pytest.param(*case, marks=pytest.mark.torture)
        for number, case in enumerate(CASES)
    ],
)
def test_a_fork_at_each_step_loses_nothing_and_does_not_hang(
    tmp_path: Path, name: str, kind: str, mode: str
) -> None:
    child = Child(fork_bodies.every_step, str(tmp_path), name, kind, mode, SHARE, 0)
    with children(child):
        steps, tried, refused, wrong = child.receive(figure(7200, 240))
        child.finish()
    print(f"{name}, {kind}, {mode}: {steps} steps, {tried} tried, {refused} children refused")
    assert wrong == []
    assert mode != "waited" or refused == 0


@pytest.mark.parametrize("kind", ["open", "write", "read", "maintain", "all"])
def test_forks_beside_threads_lose_nothing_and_do_not_hang(tmp_path: Path, kind: str) -> None:
    child = Child(fork_bodies.free, str(tmp_path), kind, FREE_S)
    with children(child):
        forks, refused, wrong = child.receive(FREE_S + 240)
        child.finish()
    print(f"{kind}: {forks} forks, {refused} children refused")
    assert wrong == []
    assert refused == 0
