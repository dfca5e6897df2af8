"""The methods of `ShardedStore` that read rows without a search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any, Final

from mrlstore import checks
from mrlstore.api import arguments
from mrlstore.checks import check_ids, check_namespace
from mrlstore.cluster import answer_merge
from mrlstore.cluster.sharded_writing import ShardedWriting
from mrlstore.cluster.slots import divided
from mrlstore.errors import InvalidInput
from mrlstore.search.field_order import FieldOrder
from mrlstore.search.records import decode_cursor
from mrlstore.types import Facet, Include, Record, Where
from mrlstore.where import check_field, parse

_PAGE: Final = 1_000  # rows of a page of `scan`
_PAGE_WITH_VECTORS: Final = 100


class ShardedReading(ShardedWriting):
    """Rows by id, by filter and in order, and how many there are, over the shards of a cluster."""

    def namespaces(self, *, after: str | None = None) -> dict[str, int]:
        """How many rows each namespace has, as `Store.namespaces`."""
        found: dict[str, int] = {}
        for some in self._ask(self._shards(None), "namespaces", {}, after).values.values():
            for name, rows in some.items():
                found[name] = found.get(name, 0) + rows
        return dict(sorted(found.items()))

    def get(
        self,
        ids: Iterable[str] | None = None,
        *,
        where: Where | None = None,
        limit: int | None = None,
        namespace: str = "",
        include: Iterable[Include] = ("metadata", "document"),
        after: str | None = None,
    ) -> list[Record]:
        """Rows by id, by filter, or both, as `Store.get`; one moment of each shard."""
        check_namespace(namespace)
        names, node = None if ids is None else check_ids(ids), parse(where)
        most = checks.check_optional_count(limit, "limit", 0, 2**63 - 1)
        if names is None and node is None and most is None:
            raise InvalidInput("get: give ids, a where that is not empty, or a limit; scan reads all rows")
        projection = arguments.check_projection(include)
        asked: dict[str, Any] = {
            "where": where,
            "namespace": namespace,
            "include": tuple(name for name, has in projection._asdict().items() if has),
        }
        if names is None:
            found = self._ask(
                self._shards(namespace), "get", {**asked, "ids": None, "limit": most}, after
            ).values
            pages = answer_merge.in_scan_order(found.values(), None)
            return list(pages)[:most]
        there: dict[str, Record] = {}
        for shard, own in self._divided(namespace, list(dict.fromkeys(names))).items():
            answer = self._ask([shard], "get", {**asked, "ids": own}, after).values[shard]
            there.update((record.id, record) for record in answer)
        return [there[name] for name in names if name in there][:most]

    def scan(
        self,
        where: Where | None = None,
        *,
        namespace: str | None = "",
        prefix: str | None = None,
        include: Iterable[Include] = ("metadata", "document"),
        limit: int | None = None,
        after: str | None = None,
        order_by: str | None = None,
        descending: bool = False,
    ) -> Iterator[Record]:
        """Rows in order, as `Store.scan`, page by page; each page is of a moment of its own in each shard.

        `after` is a cursor here, as in `Store.scan`, and not a token.
        """
        if namespace is not None:
            check_namespace(namespace)
        parse(where)
        most = checks.check_optional_count(limit, "limit", 0, 2**63 - 1)
        projection = arguments.check_projection(include)
        order = None
        if order_by is not None:
            order = FieldOrder(check_field(order_by, "order_by"), checks.check_flag(descending, "descending"))
            if after is not None:
                order.decoded(after)
        elif checks.check_flag(descending, "descending"):
            raise InvalidInput("descending: goes with order_by, the field that rows are sorted by")
        elif after is not None:
            decode_cursor(after)
        asked = {
            "where": where,
            "namespace": namespace,
            "prefix": arguments.check_prefix(prefix),
            "include": tuple(name for name, has in projection._asdict().items() if has),
            "order_by": order_by,
            "descending": descending,
        }
        size = _PAGE_WITH_VECTORS if projection.vector else _PAGE
        pages = [self._pages(shard, asked, after, most, size) for shard in self._shards(namespace)]
        return self._limited(answer_merge.in_scan_order(pages, order), most)

    def count(
        self, where: Where | None = None, *, namespace: str | None = "", after: str | None = None
    ) -> int:
        """How many rows match, as `Store.count`."""
        if namespace is not None:
            check_namespace(namespace)
        parse(where)
        asked = {"where": where, "namespace": namespace}
        return sum(self._ask(self._shards(namespace), "count", asked, after).values.values())

    def facets(
        self,
        field: str,
        *,
        where: Where | None = None,
        namespace: str | None = "",
        limit: int | None = None,
        after: str | None = None,
    ) -> list[Facet]:
        """Which values a metadata field has, and in how many rows each stands, as `Store.facets`."""
        if namespace is not None:
            check_namespace(namespace)
        parse(where)
        most = checks.check_optional_count(limit, "limit", 1, 2**63 - 1)
        asked = {"field": check_field(field, "field"), "where": where, "namespace": namespace}
        return answer_merge.facets_of_all(
            self._ask(self._shards(namespace), "facets", asked, after).values.values(), most
        )

    def sample(
        self,
        n: int,
        *,
        where: Where | None = None,
        namespace: str | None = "",
        seed: int | None = None,
        include: Iterable[Include] = ("metadata", "document"),
        after: str | None = None,
    ) -> list[Record]:
        """Up to n different rows, chosen by chance, each with the same chance, as `Store.sample`."""
        if namespace is not None:
            check_namespace(namespace)
        parse(where)
        wanted = checks.check_count(n, "n", 0, 2**63 - 1)
        fixed = None if seed is None else checks.check_count(seed, "seed", -(2**63), 2**63 - 1)
        arguments.check_projection(include)
        shards = self._shards(namespace)
        matching = self._ask(shards, "count", {"where": where, "namespace": namespace}, after).values
        owners = [shard for shard, rows in matching.items() for _ in range(rows)]
        chance = Random(fixed)
        drawn = chance.sample(owners, min(wanted, len(owners)))
        found: list[Record] = []
        for shard in sorted(set(drawn)):
            asked = {
                "n": drawn.count(shard),
                "where": where,
                "namespace": namespace,
                "seed": fixed,
                "include": tuple(include),
            }
            found += self._ask([shard], "sample", asked, after).values[shard]
        chance.shuffle(found)
        return found

    def __len__(self) -> int:
        """Rows of the default namespace, as `count()`."""
        return self.count()

    def __bool__(self) -> bool:
        """True, for an empty cluster too."""
        return True

    def __contains__(self, id: object) -> bool:
        """Whether the default namespace has this id; False for what cannot be an id."""
        try:
            names = check_ids([id], "id")  # type: ignore[list-item]
        except InvalidInput:
            return False
        return bool(self.get(names, include=()))

    def _divided(self, namespace: str, ids: Sequence[str]) -> dict[int, list[str]]:
        """The ids by their shards."""
        parts = divided(namespace, ids, self._home.shards)
        return {shard: [ids[place] for place in places] for shard, places in parts.items()}

    def _pages(
        self, shard: int, asked: dict[str, Any], after: str | None, limit: int | None, size: int
    ) -> Iterator[Record]:
        """The rows of a shard in order; the first page is read at once, so that errors are raised early."""
        most = size if limit is None else min(size, limit)

        def read(cursor: str | None) -> list[Record]:
            page: list[Record] = self._ask([shard], "page", {**asked, "after": cursor, "limit": most}).values[
                shard
            ]
            return page

        first = read(after)

        def rows(page: list[Record]) -> Iterator[Record]:
            while page:
                yield from page
                page = read(page[-1].cursor)

        return rows(first)

    def _limited(self, records: Iterable[Record], limit: int | None) -> Iterator[Record]:
        for number, record in enumerate(records):
            if limit is not None and number >= limit:
                return
            yield record
