"""A job: reports how far it is, stops when asked to, and knows how long it may wait."""

from __future__ import annotations

import time

import pytest

from mrlstore.system.job import UNWATCHED, Interrupted, Job
from mrlstore.types import Progress


def test_it_reports_its_steps() -> None:
    told: list[Progress] = []
    Job(told.append).step("index", 3, 10)
    assert told == [Progress("index", 3, 10)]


def test_it_stops_before_it_reports() -> None:
    told: list[Progress] = []
    job = Job(told.append, should_stop=lambda: True)
    with pytest.raises(Interrupted):
        job.check()
    with pytest.raises(Interrupted):
        job.step("index", 3, 10)
    assert told == []


def test_one_that_nobody_watches_goes_on() -> None:
    UNWATCHED.check()
    UNWATCHED.step("index", 1, 1)
    assert UNWATCHED.wait_s == 0


def test_the_time_to_wait_runs_out() -> None:
    job = Job.waiting(1_000)
    first = job.wait_s
    time.sleep(0.01)
    assert 0 < job.wait_s < first <= 1_000
    assert Job.waiting(-1).wait_s == 0
