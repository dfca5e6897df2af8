"""Near duplicates, against leader clustering in plain numpy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import mrlstore
from mrlstore import InvalidInput, Progress
from tests import inside
from tests.oracle import nested_vectors

DIM = 32
Groups = dict[str, dict[str, float]]  # by the id of the representative: ids and scores of the duplicates


def with_copies(count: int, copies: dict[int, int], spread: float = 0.02) -> NDArray[np.float32]:
    """Rows float32 [n, DIM] in random order: `count` different ones, and near copies of some of these."""
    rng = np.random.default_rng(3)
    rows = [nested_vectors(count, DIM)]
    for row, times in copies.items():
        noise = rng.normal(size=(times, DIM)) * spread * np.linalg.norm(rows[0][row]) / DIM**0.5
        rows.append((rows[0][row] + noise) * rng.uniform(0.5, 2, (times, 1)))
    return np.asarray(rng.permutation(np.concatenate(rows)), dtype=np.float32)


def names(count: int) -> list[str]:
    return [f"row-{n:05}" for n in range(count)]


def expected(vectors: NDArray[np.float32], above: float, ids: list[str]) -> Groups:
    """Rows in the order of their ids: each that is free takes the free ones that are near to it."""
    wide = vectors.astype(np.float64)
    units = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float16).astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    taken, groups = set[int](), Groups()
    for row in np.argsort(ids).tolist():
        if row not in taken:
            scores = units @ units[row]
            near = [n for n in np.flatnonzero(scores >= above - 2e-6).tolist() if n != row and n not in taken]
            if near:
                groups[ids[row]] = {ids[n]: float(scores[n]) for n in near}
                taken.update(near)
    return groups


def found(store: Any, *arguments: Any, **options: Any) -> Groups:
    groups = list(store.duplicates(*arguments, **options))
    for group in groups:
        scores = [hit.score for hit in group.duplicates]
        assert scores == sorted(scores, reverse=True)
    return {group.representative.id: {hit.id: hit.score for hit in group.duplicates} for group in groups}


def same(left: Groups, right: Groups) -> bool:
    return left.keys() == right.keys() and all(
        left[name].keys() == right[name].keys()
        and all(abs(left[name][id] - right[name][id]) < 1e-5 for id in left[name])
        for name in left
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[mrlstore.Store]:
    with mrlstore.open(tmp_path / "s.mrl", dim=DIM, prefix_dim=16, auto_maintain=False) as opened:
        yield opened


def test_groups_are_those_of_leader_clustering(store: mrlstore.Store) -> None:
    """In the tail, in several segments and in one graph; one group is larger than the first two searches."""
    vectors = with_copies(2400, {1: 1, 2: 2, 3: 15, 4: 16, 5: 40, 6: 400})
    ids, cut = names(len(vectors)), len(vectors) // 3
    for above in (0.98, 0.7):
        assert expected(vectors, above, ids)
    wanted = expected(vectors, 0.98, ids)
    store.upsert(ids[:cut], vectors[:cut])
    store.optimize()
    store.upsert(ids[cut:], vectors[cut:])
    assert same(found(store), wanted)
    store.optimize()
    assert same(found(store), wanted)
    assert same(found(store, 0.7), expected(vectors, 0.7, ids))


def test_a_group_of_any_size_is_found_whole(store: mrlstore.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the deepest search by codes all rows are compared."""
    monkeypatch.setattr(inside.DUPLICATES_DEEPER, (20,))
    vectors = with_copies(100, {6: 300})
    store.upsert(names(400), vectors)
    assert same(found(store), expected(vectors, 0.98, names(400)))


def test_filters_namespaces_and_what_rows_carry(store: mrlstore.Store) -> None:
    vector = nested_vectors(1, DIM)[0]
    store.upsert(
        ["b", "a", "c"], [vector, vector * 2, vector], [{"n": 1}, {"n": 2}, {"n": 2}], ["B", "A", None]
    )
    store.upsert(["a"], [vector], namespace="other")
    store.upsert(["bare"], None, documents=["no vector"])
    (group,) = store.duplicates(include=("document", "vector"))
    assert (group.representative.id, group.representative.document) == ("a", "A")
    assert group.representative.vector is not None
    assert np.allclose(group.representative.vector, vector * 2, rtol=1e-3)
    assert [(hit.id, hit.document, hit.metadata) for hit in group.duplicates] == [
        ("b", "B", None),
        ("c", None, None),
    ]
    assert all(hit.score == pytest.approx(1, abs=2e-6) for hit in group.duplicates)
    assert found(store, 1).keys() == {"a"}  # equal vectors, though their scores are rounded
    assert set(found(store, where={"n": 2})["a"]) == {"c"}
    assert found(store, where={"n": 1}) == found(store, namespace="other") == {}
    (across,) = store.duplicates(namespace=None)
    assert [(hit.namespace, hit.id) for hit in across.duplicates if hit.namespace] == [("other", "a")]
    (both,) = store.duplicates(namespace=["other", "", "nobody"], include=())
    assert len(both.duplicates) == 3 and both.representative.metadata is None


def test_groups_come_one_by_one_and_rows_may_go_meanwhile(store: mrlstore.Store) -> None:
    base = np.eye(DIM, dtype=np.float32)[np.arange(900) % 30]
    store.upsert(names(900), base)
    wanted = expected(base, 0.9999, names(900))
    seen: list[Progress] = []
    groups = store.duplicates(0.9999, progress=seen.append)
    first = next(groups)
    assert seen[0].total == 900 and seen[-1].done < 900
    store.delete(where=None, ids=names(900)[1:])
    assert first.representative.id == next(iter(wanted))
    rest = list(groups)
    assert all(group.representative.id in wanted for group in rest)
    assert seen[-1].done == seen[-1].total == 900
    assert list(store.duplicates(0.9999)) == []


def test_a_store_without_rows_or_vectors_has_none(store: mrlstore.Store) -> None:
    assert list(store.duplicates()) == []
    store.upsert(["x", "y"], None, documents=["same", "same"])
    assert list(store.duplicates()) == list(store.duplicates(limit=0)) == []


@pytest.mark.parametrize(
    "options",
    [{"above": 0}, {"above": 1.1}, {"above": "high"}, {"above": float("nan")}, {"limit": -1}, {"where": 3},
     {"namespace": 3}, {"include": "vector"}, {"progress": 3}],
)  # fmt: skip
def test_bad_arguments(store: mrlstore.Store, options: Any) -> None:
    with pytest.raises(InvalidInput):
        store.duplicates(**options)
