"""Walks under filters, by themselves: at random, by topic, far from the query, in odd groups."""

from __future__ import annotations

import numpy as np
import pytest

from mrlstore.index.build import build_index
from mrlstore.index.group import Group
from mrlstore.index.layout import open_index
from mrlstore.search.group_search import Walk, search_group
from mrlstore.search.queries import prepare
from tests.nested import nested
from tests.one_query import answers, search_graph, search_scan

ROWS, DIM, PREFIX = 20_000, 128, 64


@pytest.fixture(scope="module")
def group(shared):
    rows = nested(ROWS, DIM).astype(np.float16)
    inverse = (1 / np.linalg.norm(rows.astype(np.float64), axis=1)).astype(np.float32)
    arrays, info = shared.value(
        "filtered walk", lambda: build_index(rows, np.array([0, ROWS]), prefix_dim=PREFIX)
    )
    return Group(rows, inverse, np.arange(ROWS), open_index(arrays, info, 0, 0, ROWS))


@pytest.fixture(scope="module")
def queries():
    return [prepare(vector, PREFIX) for vector in nested(60, DIM, seed=2)]


def by_topic(group, share):
    """The rows nearest to one direction: far from most queries."""
    near = group.vectors.astype(np.float32) @ nested(1, DIM, seed=99)[0]
    return near >= np.quantile(near, 1 - share)


def at_random(group, share):
    return np.random.default_rng(5).random(len(group.keys)) < share


@pytest.mark.parametrize(
    ("share", "beam_ratio"), [(0.9, 0.2), (0.5, 0.2), (0.2, 0.2), (0.1, 0.2), (0.05, 0.3)]
)
@pytest.mark.parametrize("kind", [at_random, by_topic])
def test_it_finds_what_a_scan_finds(group, queries, kind, share, beam_ratio):
    allowed = kind(group, share)
    walk, shares = Walk(group, 10, 768, 60, allowed, beam_ratio=beam_ratio), []
    walk.nodes.count = 0  # where a walk comes to nothing no scan takes its place
    for query in queries:
        best = search_scan(group, query, 10, 60, allowed)
        (found,) = answers(search_group(walk, query))
        assert len(set(found.rows.tolist())) == 10 and allowed[found.rows].all()
        shares.append(len(set(found.rows.tolist()) & set(best.rows.tolist())) / 10)
    assert np.mean(shares) >= 0.985


def test_where_what_passes_lies_far_from_the_query_it_is_scanned(group):
    """Rows that pass lie around one direction; queries come from there, and from the other side."""
    allowed = by_topic(group, 0.2)
    order = np.argsort(group.vectors.astype(np.float32) @ nested(1, DIM, seed=99)[0])
    for rows, least, most in ((order[:30], 0.5, 1.0), (order[-30:], 0.0, 0.1)):
        scanned = 0
        for vector in group.vectors[rows].astype(np.float32):
            query = prepare(vector, PREFIX)
            trusting, found = (
                search_graph(group, query, 10, 384, 60, allowed, beam_ratio=0.13, lost_ratio=lost_ratio)
                for lost_ratio in (0, 40)
            )
            if found.visited > trusting.visited:
                scanned += 1
                best = search_scan(group, query, 10, 60, allowed)
                assert found.visited == trusting.visited + best.visited
                np.testing.assert_array_equal(found.rows, best.rows)
            else:
                np.testing.assert_array_equal(found.rows, trusting.rows)
        assert least <= scanned / len(rows) <= most


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_passes_at_random_is_never_far(group, queries, share):
    allowed = at_random(group, share)
    for query in queries:
        trusting, found = (
            search_graph(group, query, 10, 384, 60, allowed, beam_ratio=0.13, lost_ratio=lost_ratio)
            for lost_ratio in (0, 40)
        )
        assert found.visited == trusting.visited


def test_more_slack_finds_more(group, queries):
    allowed = at_random(group, 0.1)
    visited, shares = [], []
    for beam_ratio in (0.02, 0.3):
        found = [search_graph(group, query, 10, 768, 60, allowed, beam_ratio=beam_ratio) for query in queries]
        best = [search_scan(group, query, 10, 60, allowed) for query in queries]
        visited.append(sum(one.visited for one in found))
        shares.append(
            np.mean([len(set(a.rows) & set(b.rows)) / 10 for a, b in zip(found, best, strict=True)])
        )
    assert visited[0] < visited[1] and shares[0] < shares[1]


@pytest.mark.parametrize(("k", "ef", "shortlist"), [(1, 1, 1), (1, 3, 2), (10, 1, 500), (200, 10, 10)])
@pytest.mark.parametrize("beam_ratio", [0.0, 0.1])
def test_odd_sizes(group, queries, k, ef, shortlist, beam_ratio):
    allowed = at_random(group, 0.3)
    for query in queries[:5]:
        found = search_graph(group, query, k, ef, shortlist, allowed, beam_ratio=beam_ratio)
        assert len(set(found.rows.tolist())) == k and allowed[found.rows].all()
        assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("count", [1, 9, 10, 63, 64, 65])
def test_few_rows_that_lie_together(group, queries, count):
    """They may be in one stretch of the sample, and at the end of the group."""
    for start in (0, 7, ROWS - count):
        allowed = np.zeros(ROWS, np.bool_)
        allowed[start : start + count] = True
        for query in queries[:5]:
            found = search_graph(group, query, 10, 96, 60, allowed, beam_ratio=0.13)
            best = search_scan(group, query, 10, 96, allowed)
            assert len(found.rows) == min(10, count)
            if count <= 60:  # too few for a shortlist: all of them are looked at
                np.testing.assert_array_equal(found.rows, best.rows)


def test_marks_are_cleared(group, queries):
    """A walk leaves nothing behind that the next one of the same thread could see."""
    allowed = at_random(group, 0.2)
    first = [search_graph(group, query, 10, 384, 60, allowed, beam_ratio=0.13) for query in queries]
    again = [search_graph(group, query, 10, 384, 60, allowed, beam_ratio=0.13) for query in queries]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
        assert one.visited == other.visited
