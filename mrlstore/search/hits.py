"""What a search found, for one query or many: ids, keys, places and results are made of it when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue.rows import Row
from mrlstore.search import hydrate
from mrlstore.search.hydrate import Carried
from mrlstore.search.params import Projection
from mrlstore.search.workspace import ID_SEPARATOR, GroupHits, JointHits
from mrlstore.storage.row_texts import TextKind
from mrlstore.storage.segment import Segment
from mrlstore.storage.session import View
from mrlstore.storage.snapshot import LiveGroup
from mrlstore.storage.tail import Tail
from mrlstore.system.files import Buffer
from mrlstore.types import Plan, Result

Counts = list[int]  # of one query in one group, see kernels.two_stage.search_walk


class Hits:
    """The best k rows for each of m queries, best first; equal scores go by row key.

    Until `release` it holds the segments open that the rows lie in.
    """

    __slots__ = (
        "_counts", "_ids", "_live_groups", "_namespace", "_namespaces", "_results", "_rows", "_scores",
        "_sizes", "_text", "_which", "_written", "plan",
    )  # fmt: skip

    def __init__(
        self,
        plan: Plan,
        live_groups: tuple[LiveGroup, ...],
        rows: NDArray[np.int64],
        scores: NDArray[np.float32],
        counts: list[list[Counts]],
        text: str | None,
        namespace: str | None,
    ) -> None:
        """Take what one group gave, which is in order already; `merge` puts several groups together.

        plan: the searcher's, with nothing counted. rows, scores: [m, k]. counts: [groups][m]. text: the ids
        of all queries, ID_SEPARATOR behind each; None where they have to be read by row. namespace: of all
        rows; None where they may be of several.
        """
        self.plan, self._live_groups, self._rows, self._scores = plan, live_groups, rows, scores
        self._counts, self._text, self._namespace = counts, text, namespace
        self._namespaces: list[list[str]] | None = None
        self._sizes: list[int] | None = None  # hits of each query; None: as many as the one group found
        self._written: list[int] | None = None  # ids of each query in `text`, where it has several groups
        self._which: NDArray[np.int64] | None = None  # [m, k], which group each row is of; None: the only
        self._ids: list[list[str]] | None = None
        self._results: list[Result] | None = None

    @staticmethod
    def merge(
        plan: Plan,
        live_groups: tuple[LiveGroup, ...],
        found: list[GroupHits],
        queries: int,
        k: int,
        namespace: str | None,
    ) -> Hits:
        """The best k rows of all groups for each query; scores are exact, so they compare between groups."""
        counts: list[list[Counts]] = [hits.counts.tolist() for hits in found]
        if len(found) == 1:  # nearly always
            hits = found[0]
            text = text_of(hits.ids, counts[0])
            return Hits(plan, live_groups, hits.rows, hits.scores, counts, text, namespace)
        rows, scores = np.zeros((queries, k), np.int64), np.zeros((queries, k), np.float32)
        which, sizes = np.zeros((queries, k), np.int64), []
        for number in range(queries):
            best = _best(live_groups, found, number, k)
            size = len(best.rows)
            which[number, :size], rows[number, :size] = best.which, best.rows
            scores[number, :size] = best.scores
            sizes.append(size)
        merged = Hits(plan, live_groups, rows, scores, counts, None, namespace)
        merged._which, merged._sizes = which, sizes
        return merged

    @staticmethod
    def of_several(
        plan: Plan,
        live_groups: tuple[LiveGroup, ...],
        found: JointHits,
        rows: NDArray[np.int64],
        which: NDArray[np.int64],
        scores: NDArray[np.float32],
        namespace: str | None,
    ) -> Hits:
        """What one search of several groups gave; rows, which and scores are the caller's to keep."""
        sizes = found.sizes.tolist()
        text = text_of(found.ids, [[0, 0, 0, sizes[-1][1]]] if sizes else [])
        counts: list[list[Counts]] = found.counts.transpose(1, 0, 2).tolist()
        hits = Hits(plan, live_groups, rows, scores, counts, text, namespace)
        hits._which, hits._sizes = which, [size for size, _ in sizes]
        hits._written = hits._sizes
        return hits

    def __len__(self) -> int:
        """The number of queries."""
        return len(self._scores)

    def size(self, number: int) -> int:
        """How many hits a query has."""
        return self._counts[0][number][0] if self._sizes is None else self._sizes[number]

    def cut(self, min_score: float) -> None:
        """Leave out hits with a lower score."""
        self._sizes = [int(np.count_nonzero(scores >= min_score)) for scores in self.scores()]

    def scores_of(self, number: int) -> NDArray[np.float32]:
        """The scores of a query's hits, float32 [size]."""
        return self._scores[number, : self.size(number)]

    def keys_of(self, number: int) -> NDArray[np.int64]:
        """The row keys of a query's hits, int64 [size]."""
        if self._which is None:
            return self._live_groups[0].group.keys[self._rows[number, : self.size(number)]]
        keys = [self._live_groups[which].group.keys[row] for which, row in self._pairs(number)]
        return np.array(keys, np.int64)

    def places_of(self, number: int) -> Iterator[tuple[Segment | Tail, int]]:
        """For each hit of a query the segment or tail that it lies in, and its row there."""
        for which, row in self._pairs(number):
            live_group = self._live_groups[which]
            yield live_group.holder, live_group.start + row

    def result(self, number: int = 0) -> Result:
        """The result of a query, without metadata, documents and vectors. It holds no segment open."""
        return self._result_of(number, None)

    def _result_of(self, number: int, held: Carried | None) -> Result:
        ids = (self._ids or self.ids())[number]
        scores = self._scores[number, : len(ids)]
        make_plan = partial(counted, self.plan, self._counts, number)
        namespaces = self.namespaces_of(number) if self._namespace is None else self._namespace
        make_hits = None if held is None else partial(hydrate.carrying_hits, ids, scores, held, namespaces)
        return Result(ids, scores, make_plan, make_hits, None, namespaces)

    def hydrated(self, view: View, number: int, projection: Projection) -> Result:
        """The result of a query, whose hits carry what is projected, at the snapshot's generation.

        Raises SnapshotMoved if a row that has to be read from the catalogue has been removed since.
        """
        held = self._joined(number, projection) or self._carried(view, number, projection)
        if projection.vector:
            held = held._replace(vectors=[part.original(row) for part, row in self.places_of(number)])
        return self._result_of(number, held)

    def _joined(self, number: int, projection: Projection) -> Carried | None:
        """The texts of hits of one segment, if it has them all: by a kernel, in a fifth of the time."""
        if self._which is not None or not self._live_groups:
            return None
        live_group = self._live_groups[0]
        texts, rows = live_group.holder.row_texts, self._rows[number, : self.size(number)]
        if texts is None:
            return None
        metadata = documents = None
        if projection.metadata:
            metadata = texts.joined("metadata", rows, live_group.start)
            if metadata is None:
                return None
        if projection.document:
            documents = texts.joined("documents", rows, live_group.start)
            if documents is None:
                return None
        return Carried(None if metadata is None else metadata.text, documents)

    def _carried(self, view: View, number: int, projection: Projection) -> Carried:
        """The texts of any hits: those that their segments do not have are read from the catalogue."""

        def from_catalogue(places: list[int]) -> list[Row]:
            keys = self.keys_of(number)[places].tolist()
            with view.connection() as connection:
                return hydrate.rows_of(connection, keys, self.plan.generation)

        return hydrate.carried(partial(self._texts, number), from_catalogue, projection)

    def _texts(self, number: int, kind: TextKind) -> list[Buffer]:
        """The metadata or the document of each of a query's hits, see `Segment.texts`."""
        if self._which is None and self._live_groups:
            live_group = self._live_groups[0]
            rows = live_group.start + self._rows[number, : self.size(number)]
            return live_group.holder.texts(kind, rows.tolist())
        return [text for part, row in self.places_of(number) for text in part.texts(kind, (row,))]

    def namespaces_of(self, number: int) -> list[str]:
        """The namespace of each of a query's hits."""
        if self._namespace is not None:
            return [self._namespace] * self.size(number)
        if self._namespaces is not None:
            return self._namespaces[number][: self.size(number)]
        names = []
        for which, row in self._pairs(number):
            live_group = self._live_groups[which]
            holder, name = live_group.holder, live_group.namespace
            names.append(holder.namespaces_of((row,))[0] if isinstance(holder, Tail) else name or "")
        return names

    def ids(self) -> list[list[str]]:
        """The ids of every query's hits."""
        if self._ids is None:
            self._ids = self._read_ids()
        return self._ids

    def scores(self) -> list[NDArray[np.float32]]:
        """The scores of every query's hits."""
        return [self.scores_of(number) for number in range(len(self))]

    def results(self) -> list[Result]:
        """The result of every query."""
        if self._results is None:
            self._results = [self.result(number) for number in range(len(self))]
        return self._results

    def keep(self, results: list[Result]) -> None:
        """Answer with these results, whose hits carry more than ids and scores; let the segments go."""
        self._results = results
        self.release()

    def release(self) -> None:
        """Let the segments go; what only they can tell is read before."""
        if self._text is None or self._written is not None:
            self.ids()
        if self._namespace is None:
            self._namespaces = [self.namespaces_of(number) for number in range(len(self))]
        self._live_groups = ()

    def _read_ids(self) -> list[list[str]]:
        if self._text is not None and self._written is not None:
            return self._ids_of_several(iter(self._text.split(ID_SEPARATOR)), self._written)
        if self._text is not None:
            ids, counts = self._text.split(ID_SEPARATOR), self._counts[0]
            if len(counts) == 1:
                lists = [ids[: counts[0][0]]]
            else:
                written = iter(ids)
                lists = [list(islice(written, count[0])) for count in counts]
            if self._sizes is None:
                return lists
            return [some[:size] for some, size in zip(lists, self._sizes, strict=True)]
        if self._which is not None:
            places = (self.places_of(number) for number in range(len(self)))
            return [[id for part, row in some for id in part.ids((row,))] for some in places]
        (live_group,) = self._live_groups
        rows = (self._rows[number, : self.size(number)] for number in range(len(self)))
        return [live_group.holder.ids((live_group.start + some).tolist()) for some in rows]

    def _ids_of_several(self, written: Iterator[str], sizes: list[int]) -> list[list[str]]:
        """The ids that a kernel wrote, and those of the tail, which it did not."""
        lists = [list(islice(written, size)) for size in sizes]
        tails = {i: one.holder for i, one in enumerate(self._live_groups) if isinstance(one.holder, Tail)}
        for number, some in enumerate(lists):
            del some[self.size(number) :]
            if tails:
                for place, (which, row) in enumerate(self._pairs(number)):
                    if which in tails:
                        some[place] = tails[which].ids((row,))[0]
        return lists

    def _pairs(self, number: int) -> Iterator[tuple[int, int]]:
        """The number of the group and the row in its group, for each hit of a query."""
        size = self.size(number)
        rows: list[int] = self._rows[number, :size].tolist()
        which: list[int] = [0] * size if self._which is None else self._which[number, :size].tolist()
        return zip(which, rows, strict=True)


class _Best(NamedTuple):
    which: NDArray[np.int64]  # [<= k], the number of the group
    rows: NDArray[np.int64]  # [<= k], rows of that group
    scores: NDArray[np.float32]  # [<= k]


def _best(live_groups: tuple[LiveGroup, ...], found: list[GroupHits], number: int, k: int) -> _Best:
    """The best k rows of one query over all groups."""
    sizes = [int(hits.counts[number, 0]) for hits in found]
    rows = [hits.rows[number, :size] for hits, size in zip(found, sizes, strict=True)]
    scores = [hits.scores[number, :size] for hits, size in zip(found, sizes, strict=True)]
    keys = [live_group.group.keys[some] for live_group, some in zip(live_groups, rows, strict=True)]
    if not found:
        return _Best(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    joined = np.concatenate(scores)
    order = np.lexsort((np.concatenate(keys), -joined))[:k]
    which = np.repeat(np.arange(len(found)), sizes)
    return _Best(which[order], np.concatenate(rows)[order], joined[order])


def text_of(ids: NDArray[np.uint8], counts: list[Counts]) -> str | None:
    """The ids that a kernel has written; None if it wrote none, or what it wrote is damaged."""
    stop = counts[-1][3] if counts else -1
    if stop < 0:
        return None
    try:
        return str(ids[:stop].tobytes(), "utf-8")
    except UnicodeDecodeError:
        return None


def counted(plan: Plan, counts: list[list[Counts]], number: int) -> Plan:
    """The plan with what the query of this number has cost in each group; counts: [groups][m]."""
    segments = tuple(
        replace(
            segment,
            reranked=of_group[number][1],
            visited=of_group[number][2],
            copies=of_group[number][4],
        )
        for segment, of_group in zip(plan.segments, counts, strict=True)
    )
    return replace(plan, segments=segments)
