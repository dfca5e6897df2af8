"""A state machine over the public API: whatever is done in whatever order, the oracle agrees."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import mrlstore
from tests.children import Child, children
from tests.crash.states import summary
from tests.oracle import Oracle, assert_exact, assert_same_rows, grouped, nested_vectors, recall
from tests.property.dying import write_and_die
from tests.scale import FULL, figure, shares

DIM, PREFIX = 12, 6
POOL = nested_vectors(6000, DIM)
BULKS = (600, 600, 2100, 2100, 4200)

names = st.sampled_from([f"id{i}" for i in range(25)])
spaces = st.sampled_from(["", "tenant"])
values = st.one_of(
    st.integers(-2, 3), st.booleans(), st.none(), st.sampled_from([0.5, 1.0, -0.0, 2**60, "a", "ab", ""])
)
metadatas = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from(["x", "y", "z.w", "t"]),
        st.one_of(
            values, st.lists(values, max_size=3), st.dictionaries(st.sampled_from("wv"), values, max_size=2)
        ),
        max_size=3,
    ),
)
documents = st.one_of(st.none(), st.sampled_from(["", "text", "ünï\0"]))
rows = st.lists(
    st.tuples(names, st.one_of(st.none(), st.integers(0, len(POOL) - 1)), metadatas, documents), max_size=12
)
fields = st.sampled_from(["x", "y", "z.w", "t", "t.w", "nothing"])
scalars = st.one_of(st.integers(-2, 3), st.booleans(), st.sampled_from([0.5, 1.0, "a", "ab"]))
ordered = st.one_of(st.integers(-2, 3), st.sampled_from([0.5, "a", ""]))
conditions = st.one_of(
    values,
    st.builds(lambda op, v: {op: v}, st.sampled_from(["$eq", "$ne"]), values),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered),
    st.builds(
        lambda op, v: {op: v},
        st.sampled_from(["$in", "$nin", "$any", "$all"]),
        st.lists(scalars, min_size=1, max_size=3),
    ),
    st.builds(lambda op, v: {op: v}, st.sampled_from(["$contains", "$not_contains"]), scalars),
    st.builds(lambda v: {"$exists": v}, st.booleans()),
    st.builds(lambda v: {"$not": {"$eq": v}}, values),
)
clauses = st.dictionaries(fields, conditions, min_size=1, max_size=2)
wheres = st.one_of(
    clauses,
    st.builds(
        lambda op, c: {op: c}, st.sampled_from(["$and", "$or"]), st.lists(clauses, min_size=1, max_size=3)
    ),
)


class StoreMachine(RuleBasedStateMachine):
    """One store, its oracle, and now and then a second handle on the same path."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="mrlstore-machine-"))
        self.path = self.folder / "machine.mrl"
        self.oracle = Oracle()
        self.handles: list[Any] = []
        self.crashes = 0

    @initialize(maintained=st.booleans())
    def open(self, maintained: bool) -> None:
        self.handles = [mrlstore.open(self.path, dim=DIM, prefix_dim=PREFIX, auto_maintain=maintained)]

    @property
    def store(self) -> Any:
        return self.handles[0]

    @property
    def newest(self) -> Any:
        return self.handles[-1]

    def teardown(self) -> None:
        try:
            if self.handles:
                assert_same_rows(self.newest, self.oracle)
                assert self.store.verify().ok
        finally:
            for handle in self.handles:
                handle.close()
            shutil.rmtree(self.folder)

    # --- writes

    @rule(batch=rows, space=spaces, policy=st.sampled_from(["replace", "skip"]), second=st.booleans())
    def upsert(self, batch: list[Any], space: str, policy: str, second: bool) -> None:
        if policy == "skip":  # which of two equal new ids is kept under "skip" is another test's matter
            batch = list({row[0]: row for row in batch}.values())
        ids = [row[0] for row in batch]
        vectors = [None if row[1] is None else POOL[row[1]] for row in batch]
        arguments = ids, vectors, [row[2] for row in batch], [row[3] for row in batch]
        handle = self.newest if second else self.store
        handle.upsert(*arguments, namespace=space, on_conflict=policy)
        self.oracle.upsert(*arguments, namespace=space, on_conflict=policy)

    @rule(size=st.sampled_from(BULKS), start=st.integers(0, 1000), space=spaces)
    def upsert_many(self, size: int, start: int, space: str) -> None:
        if len(self.oracle.rows) > 5000:
            return
        picked = POOL[start : start + size]
        ids = [f"bulk{start + i}" for i in range(len(picked))]
        metadatas = [{"x": i % 4, "t": [i % 3, "a"]} for i in range(len(picked))]
        self.store.upsert(ids, picked, metadatas, namespace=space)
        self.oracle.upsert(ids, picked, metadatas, namespace=space)

    @rule(changes=rows, space=spaces)
    def update(self, changes: list[Any], space: str) -> None:
        changes = list({change[0]: change for change in changes}.values())
        ids = [change[0] for change in changes]
        vectors = [None if change[1] is None else POOL[change[1]] for change in changes]
        new, texts = [change[2] for change in changes], [change[3] for change in changes]
        changed = self.oracle.update(ids, new, texts, vectors=vectors, namespace=space)
        assert self.store.update(ids, new, texts, vectors=vectors, namespace=space) == changed

    @rule(where=wheres, change=metadatas.filter(bool), space=spaces)
    def update_where(self, where: Any, change: Any, space: str) -> None:
        if len(self.oracle.ids(where, space)) > 1000:
            return
        assert self.store.update(metadatas=change, where=where, namespace=space) == self.oracle.update_where(
            where, change, space
        )

    @rule(gone=st.lists(names, min_size=1, max_size=8), space=spaces, second=st.booleans())
    def delete(self, gone: list[str], space: str, second: bool) -> None:
        handle = self.newest if second else self.store
        assert handle.delete(gone, namespace=space) == self.oracle.delete(gone, space)

    @rule(where=wheres, space=spaces)
    def delete_where(self, where: Any, space: str) -> None:
        expected = self.oracle.delete(self.oracle.ids(where, space), space)
        assert self.store.delete(where=where, namespace=space) == expected

    @rule(prefix=st.sampled_from(["id1", "id2", "bulk10", "none"]), where=st.none() | wheres, space=spaces)
    def delete_prefix(self, prefix: str, where: Any, space: str) -> None:
        chosen = [name for name in self.oracle.ids(where, space) if name.startswith(prefix)]
        expected = self.oracle.delete(chosen, space)
        assert self.store.delete(where=where, prefix=prefix, namespace=space) == expected

    @rule(space=spaces)
    def clear(self, space: str) -> None:
        assert self.store.clear(space) == self.oracle.clear(space)

    # --- maintenance and handles

    @rule()
    def optimize(self) -> None:
        self.store.optimize()
        stats = self.store.stats()
        assert (stats.tail_rows, stats.flat_segments) == (0, 0)
        assert stats.dead_rows <= 0.1 * (len(self.oracle.rows) + stats.dead_rows)  # of segments left alone

    @rule()
    def reopen(self) -> None:
        for handle in self.handles:
            handle.close()
        self.handles = [mrlstore.open(self.path, auto_maintain=False)]

    @rule(mode=st.sampled_from(["a", "r"]))
    @precondition(lambda self: len(self.handles) == 1)
    def second_handle(self, mode: str) -> None:
        if mode == "a":
            self.handles.append(mrlstore.open(self.path, auto_maintain=False))
        else:  # a reader: it goes first to be the one that is asked, never the one that writes
            with mrlstore.open(self.path, mode="r") as reader:
                assert_same_rows(reader, self.oracle)

    @rule()
    @precondition(lambda self: len(self.handles) > 1)
    def close_second(self) -> None:
        self.handles.pop().close()

    # --- crashes

    @rule(
        nth=st.integers(1, 250),
        verb=st.sampled_from(["upsert", "upsert", "delete", "optimize"]),
        start=st.integers(0, 1000),
        size=st.sampled_from([1, 10, 100, 4200]),
        space=spaces,
    )
    def crash(self, nth: int, verb: str, start: int, size: int, space: str) -> None:
        """Another process is killed while it writes: what it did is there, whole, or is not."""
        picked = POOL[start : start + (size if len(self.oracle.rows) < 5000 else 10)]
        ids = [f"bulk{start + i}" for i in range(len(picked))]
        self.crashes += 1
        metadatas = [{"crash": self.crashes}] * len(picked)  # tells one try from another
        arguments = (ids, picked, metadatas) if verb == "upsert" else (ids,)
        pending = self.oracle.copy()
        if verb != "optimize":
            getattr(pending, verb)(*arguments, namespace=space)
        with children(Child(write_and_die, str(self.path), nth, verb, arguments, space)) as (child,):
            code, said = child.join(), list(child.heard())
        assert (code, said) in ((-signal.SIGKILL, []), (-signal.SIGKILL, ["done"]), (0, ["done"]))
        states = [pending] if said else [self.oracle, pending]
        found = {
            (record.namespace, record.id): (record.metadata, record.document)
            for record in self.newest.scan(namespace=None)
        }
        fitting = [state for state in states if summary(state) == found]
        assert fitting, f"{len(found)} rows, allowed are {[len(state.rows) for state in states]}"
        self.oracle = fitting[0]

    # --- reads

    @rule(ids=st.lists(names, max_size=6), space=spaces)
    def get(self, ids: list[str], space: str) -> None:
        ids = list(dict.fromkeys(ids))
        found = self.newest.get(ids, namespace=space, include=("metadata", "document", "vector"))
        assert [record.id for record in found] == [name for name in ids if (space, name) in self.oracle.rows]
        for record in found:
            row = self.oracle.rows[space, record.id]
            assert (record.metadata, record.document) == (row.metadata, row.document)
            assert (record.vector is None) == (row.vector is None)

    @rule(where=wheres, space=spaces, limit=st.integers(1, 5))
    def filter(self, where: Any, space: str, limit: int) -> None:
        expected = self.oracle.ids(where, space)
        assert self.newest.count(where, namespace=space) == len(expected)
        found = [record.id for record in self.newest.scan(where, namespace=space)]
        assert found == expected
        page = [record.id for record in self.newest.scan(where, namespace=space, limit=limit)]
        assert page == expected[:limit]
        assert [record.id for record in self.newest.get(where=where, limit=limit, namespace=space)] == page
        some = self.newest.sample(limit, where=where, namespace=space, include=())
        assert len({record.id for record in some} & set(expected)) == min(limit, len(expected))

    @rule(field=fields, where=st.none() | wheres, space=spaces, descending=st.booleans())
    def sorted_scan(self, field: str, where: Any, space: str, descending: bool) -> None:
        options: Any = {"namespace": space, "order_by": field, "descending": descending}
        found = list(self.newest.scan(where, **options))
        assert sorted(record.id for record in found) == self.oracle.ids(where, space)
        half = len(found) // 2
        if half:
            rest = self.newest.scan(where, **options, after=found[half - 1].cursor, include=())
            assert [record.id for record in rest] == [record.id for record in found[half:]]

    @rule(query=st.integers(0, len(POOL) - 1), field=fields, where=st.none() | wheres, k=st.integers(1, 4))
    def group(self, query: int, field: str, where: Any, k: int) -> None:
        found = self.newest.query(POOL[query], k, group_by=field, group_size=2, where=where, exact=True)
        expected = grouped(self.oracle, POOL[query], field, k, 2, where)
        assert [len(one.hits) for one in found.groups] == [len(rows) for _, rows in expected]
        for one, (_, rows) in zip(found.groups, expected, strict=True):
            assert abs(one.hits[0].score - rows[0][1]) < 1e-5

    @rule(field=fields, where=st.none() | wheres, space=st.none() | spaces)
    def facets(self, field: str, where: Any, space: str | None) -> None:
        found = self.newest.facets(field, where=where, namespace=space)
        assert [(one.value, one.count) for one in found] == self.oracle.facets(field, where, space)

    @rule(
        query=st.integers(0, len(POOL) - 1),
        k=st.sampled_from([1, 3, 10, 200]),
        space=spaces,
        second=st.booleans(),
    )
    def exact(self, query: int, k: int, space: str, second: bool) -> None:
        handle = self.newest if second else self.store
        truth = self.oracle.scores(POOL[query], namespace=space)
        found = handle.query(POOL[query], k=k, namespace=space, exact=True)
        assert_exact(found, truth, k)
        other = self.store if second else self.newest
        again = other.query(POOL[query], k=k, namespace=space, exact=True)
        assert again.ids == found.ids, "ties are broken alike by every handle"

    @rule(
        query=st.integers(0, len(POOL) - 1), where=wheres, space=spaces, dim=st.sampled_from([None, 3, DIM])
    )
    def exact_where(self, query: int, where: Any, space: str, dim: int | None) -> None:
        truth = self.oracle.scores(POOL[query], where=where, namespace=space, dim=dim)
        found = self.newest.query(POOL[query], k=20, where=where, namespace=space, dim=dim, exact=dim is None)
        assert_exact(found, truth, 20, 2e-6 if dim is None else 1e-5)

    @rule(start=st.integers(0, 5000), space=spaces)
    def two_stages(self, start: int, space: str) -> None:
        """Recall of 20 queries scatters by .02, so a low one is judged by that of 200."""
        shares = [self.recall_of(query, space) for query in POOL[start : start + 1000 : 50]]
        if np.mean(shares) < 0.95 and len(self.oracle.ids(None, space)) >= 500:
            shares = [self.recall_of(query, space) for query in POOL[start % 30 :: 30]]
            assert np.mean(shares) >= 0.95, np.mean(shares)

    def recall_of(self, query: Any, space: str) -> float:
        truth = self.oracle.scores(query, namespace=space)
        found = self.newest.query(query, k=10, namespace=space)
        assert len(found) == min(10, len(truth))
        scores = dict(truth)
        assert all(abs(hit.score - scores[hit.id]) < 1e-5 for hit in found)
        return recall(found, truth, 10)

    @rule(query=st.integers(0, len(POOL) - 1), where=wheres, space=spaces)
    def two_stages_where(self, query: int, where: Any, space: str) -> None:
        matching = dict(self.oracle.scores(POOL[query], where=where, namespace=space))
        found = self.newest.query(POOL[query], k=10, where=where, namespace=space)
        assert len(found) == min(10, len(matching))
        assert set(found.ids) <= set(matching)

    @invariant()
    def sizes_agree(self) -> None:
        if self.handles:
            assert self.newest.count(namespace=None) == len(self.oracle.rows)
            assert self.store.namespaces() == self.oracle.namespaces()


@pytest.mark.parametrize("share", shares(30))  # in torture each runs by a random seed of its own
def test_the_store_is_the_oracle(share: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=10,
            stateful_step_count=figure(60, 25),
            phases=[phase for phase in Phase if phase != Phase.shrink or not FULL],  # it takes an hour there
        ),
    )
