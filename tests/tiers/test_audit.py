"""The audit against exact answers."""

from __future__ import annotations

import logging
import multiprocessing
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrlstore
from mrlstore.errors import InvalidInput
from mrlstore.planning import confidence
from mrlstore.recall.audit import QUEUE
from tests import inside
from tests.children import PATIENCE_S, Child, Pipe, children
from tests.nested import nested
from tests.scale import figure
from tests.tiers.conftest import DIM, PREFIX, Indexed, fill
from tests.tiers.test_calibrate import late


@pytest.fixture
def audited(generated: Indexed) -> Iterator[Indexed]:
    generated.store.audit(1.0, cost=1.0)
    yield generated
    generated.store.audit(0)


def ask(indexed: Indexed, count: int, **options: Any) -> list[Any]:
    results = []
    for query in indexed.queries[:count]:
        results.append(indexed.store.query(query, include=(), **options))
        assert inside.session(indexed.store).audit.wait(30)
    return results


def test_it_measures_what_exact_answers_say(audited: Indexed) -> None:
    found = ask(audited, 30, ef=12, shortlist=10)
    exact = [audited.store.query(q, include=(), exact=True) for q in audited.queries[:30]]
    hits = sum(len({*a.ids} & {*b.ids}) for a, b in zip(found, exact, strict=True))
    (figure,) = audited.store.stats().audit
    span = confidence.clopper_pearson(hits, 300)
    assert (figure.k, figure.queries) == (10, 30)
    assert figure.recall == pytest.approx(hits / 300)
    assert (figure.low, figure.high) == (span.low, span.high)


def test_each_k_has_its_own_figures_and_exact_queries_have_none(audited: Indexed) -> None:
    ask(audited, 5)
    ask(audited, 4, k=3)
    ask(audited, 4, where={"n": {"$lt": 30}})
    ask(audited, 3, exact=True)
    assert [(figure.k, figure.queries) for figure in audited.store.stats().audit] == [(3, 4), (10, 9)]


def test_the_window_rolls(generated: Indexed) -> None:
    generated.store.audit(1.0, window=7, cost=1.0)
    ask(generated, 20)
    assert generated.store.stats().audit[0].queries == 7
    generated.store.audit(0)
    assert generated.store.stats().audit == ()


def test_a_recall_below_the_floor_is_logged(generated: Indexed, caplog: pytest.LogCaptureFixture) -> None:
    generated.store.audit(1.0, floor=0.99, cost=1.0)
    with caplog.at_level(logging.WARNING, "mrlstore"):
        ask(generated, 30, ef=10, shortlist=10)
    generated.store.audit(0)
    assert "below the floor of 0.99" in caplog.text
    assert caplog.text.count("below the floor") == 1


def test_its_cost_is_bounded(generated: Indexed) -> None:
    """With hardly any time allowed it lets most queries go, and says how many."""
    generated.store.audit(1.0, cost=1e-9)
    for query in np.repeat(generated.queries[:5], 10, axis=0):
        generated.store.query(query, include=())
    (figure,) = generated.store.stats().audit or (None,)
    generated.store.audit(0)  # ends at once, though the thread rests
    if figure is not None:  # the first check may still be under way
        assert figure.queries == 1
        assert figure.let_go >= 50 - 1 - QUEUE


def test_the_queries_of_a_tier_report_are_not_checked(audited: Indexed) -> None:
    """It measures with queries of its own, which nobody has put."""
    report = audited.store.tier_report(k=5, dims=(PREFIX,), count=20, sample=100)
    assert report.tiers
    assert inside.session(audited.store).audit.wait(PATIENCE_S)
    assert audited.store.stats().audit == ()
    audited.store.query(audited.queries[0], k=5)
    assert inside.session(audited.store).audit.wait(PATIENCE_S)
    assert [one.queries for one in audited.store.stats().audit] == [1]


def test_without_rate_nothing_is_checked(generated: Indexed) -> None:
    generated.store.audit(1e-12)
    for query in generated.queries[:50]:
        generated.store.query(query, include=())
    assert generated.store.stats().audit == ()
    generated.store.audit(0)


@pytest.mark.parametrize("options", [{"rate": 2}, {"rate": "x"}, {"floor": -1}, {"cost": 0}, {"window": 0}])
def test_wrong_arguments_are_refused(generated: Indexed, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        generated.store.audit(**options)


def test_it_notices_changed_data_before_the_refresh_mends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """30% of the rows are replaced by such whose prefix says little; the effort was chosen for others."""
    n = figure(30_000, 3_000)
    store = fill(tmp_path / "s.mrl", nested(n, DIM), PREFIX)
    for start in range(0, n * 3 // 10, 400):  # small batches: they wait in the tail
        stop = min(start + 400, n * 3 // 10)
        store.upsert([str(i) for i in range(start, stop)], late(stop - start, DIM, start))
    changed = Indexed(store, nested(1, DIM), late(40, DIM, 99_999))
    store.audit(1.0, floor=0.98, cost=1.0)
    with caplog.at_level(logging.WARNING, "mrlstore"):
        ask(changed, 40)
    (before,) = store.stats().audit
    assert before.high < 0.98
    assert "below the floor" in caplog.text
    store.optimize()
    store.audit(1.0, floor=0.98, cost=1.0)
    ask(changed, 40)
    (after,) = store.stats().audit
    assert after.recall >= 0.98
    store.close()


def test_a_forked_child_goes_on_auditing(generated: Indexed) -> None:
    """In a process that has run no other test: what those leave behind would decide what the fork finds."""
    with children(Child(audit_in_fork, str(generated.store.path), generated.queries[:5])) as (child,):
        assert child.receive() == (3, 2)
        child.finish()


def audit_in_fork(pipe: Pipe, path: str, queries: Any) -> None:
    """Audit three queries, then two in a forked child; sends how many each of both has checked."""

    def audited(store: Any, some: Any) -> int:
        ask(Indexed(store, some, some), len(some))
        (figure,) = store.stats().audit
        return int(figure.queries)

    with mrlstore.open(path, auto_maintain=False) as store:
        store.audit(1.0, cost=1.0)
        in_parent = audited(store, queries[:3])
        reading, writing = multiprocessing.Pipe(duplex=False)
        child = os.fork()
        if child == 0:
            try:
                writing.send(audited(store, queries[3:]))
            except BaseException:
                writing.send(traceback.format_exc())
            finally:
                os._exit(0)
        assert reading.poll(PATIENCE_S), "the forked child hangs"
        pipe.send((in_parent, reading.recv()))
        os.waitpid(child, 0)
