"""The audit learns from live questions: targets hold on what is asked, and questions can be dropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mrlstore
from mrlstore.catalogue import questions
from mrlstore.errors import InvalidInput
from mrlstore.recall.live_questions import ENOUGH
from tests import inside
from tests.nested import nested
from tests.scale import figure
from tests.tiers.conftest import DIM, PREFIX, fill


def unlike(count: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Questions between all topics, which no stored row resembles."""
    return np.random.default_rng(seed).standard_normal((count, DIM), dtype=np.float32)


def recall_of(store: mrlstore.Store, asked: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> float:
    shares = []
    for vector in asked:
        least = store.query(vector, include=(), exact=True)[-1].score - 1e-6
        found = store.query(vector, include=(), target_recall=0.95)
        shares.append(np.mean([hit.score >= least for hit in found]))
    return float(np.mean(shares))


def ask(store: mrlstore.Store, asked: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    for vector in asked:
        store.query(vector, include=())
        assert inside.session(store).audit.wait(60)


@pytest.fixture
def store(tmp_path: Path) -> mrlstore.Store:
    return fill(tmp_path / "s.mrl", nested(figure(20_000, 3_000), DIM), PREFIX)


def test_a_service_meets_its_target_on_what_people_ask(store: mrlstore.Store) -> None:
    held_out = unlike(60, 1)
    before = recall_of(store, held_out)
    store.audit(1.0, cost=1.0, floor=0.0, learn=True)
    ask(store, unlike(figure(300, 120), 2))
    store.audit(0)
    expected = store.query(held_out[0], include=(), target_recall=0.95).plan.expected
    assert expected is not None
    assert expected.source == "live questions"
    assert recall_of(store, held_out) >= 0.95 > before
    assert store.calibrate().source == "live questions"
    store.close()


def test_questions_are_shared_bounded_and_leave_the_disk(
    store: mrlstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "MOST", ENOUGH + 5)
    store.audit(1.0, cost=1.0, floor=0.0, learn=True)
    asked = unlike(ENOUGH + 20, 3)
    ask(store, asked)
    store.audit(0)
    with mrlstore.open(store.path, auto_maintain=False) as other:
        with inside.session(other).catalogue.read() as connection:
            assert questions.count(connection) == ENOUGH + 5
        assert other.calibrate().source == "live questions"
        last = asked[-1] / np.linalg.norm(asked[-1])
        needle = last.astype(np.float16).tobytes()
        assert any(needle[:64] in file.read_bytes() for file in Path(store.path).glob("catalogue.db*"))
        assert other.drop_questions() == ENOUGH + 5
        assert other.drop_questions() == 0
        assert other.calibrate().source == "stored rows"
    store.close()
    assert not any(needle[:64] in file.read_bytes() for file in Path(store.path).glob("catalogue.db*"))


def test_without_learn_nothing_is_kept(store: mrlstore.Store) -> None:
    store.audit(1.0, cost=1.0, floor=0.0)
    ask(store, unlike(3, 4))
    store.audit(0)
    assert store.drop_questions() == 0
    store.close()


def test_a_reader_keeps_no_questions(store: mrlstore.Store) -> None:
    store.close()
    with mrlstore.open(store.path, mode="r") as reader:
        with pytest.raises(InvalidInput, match="mode"):
            reader.audit(0.5, learn=True)
        with pytest.raises(InvalidInput, match="mode"):
            reader.drop_questions()
        assert reader.stats().audit == ()


def test_a_damaged_question_is_left_out_and_found_by_verify(store: mrlstore.Store) -> None:
    store.audit(1.0, cost=1.0, floor=0.0, learn=True)
    ask(store, unlike(25, 5))
    store.audit(0)
    with inside.session(store).catalogue.write() as write:
        write.connection.execute("UPDATE questions SET namespace = 'other' WHERE id = 1")
    problems = store.verify().problems
    assert any("question" in problem.what for problem in problems)
    assert store.drop_questions() == 25
    assert store.verify().ok
    store.close()
