"""The methods of `RemoteStore` that read rows without a search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from mrlstore.api.arguments import ProgressCallback
from mrlstore.checks import check_ids, check_namespace, check_progress
from mrlstore.client.remote_call import awaited, followed, remote
from mrlstore.client.remote_index import RemoteIndex, count_of
from mrlstore.client.request_values import names_json, where_json
from mrlstore.client.transport import Request
from mrlstore.types import DuplicateGroup, Facet, Include, Record, Where
from mrlstore.wire import from_plain

_PAGE: Final = 1_000  # rows of a page of `scan`
_PAGE_WITH_VECTORS: Final = 100
_MOST_GROUPS: Final = 10_000  # of `duplicates`, in one answer


class RemoteReading(RemoteIndex):
    """Rows by id, by filter and in order, and how many there are."""

    @remote
    def namespaces(self) -> Request[dict[str, int]]:
        """How many rows each namespace has, of those that the key opens."""
        return self._asking("namespaces", {}, lambda answer: dict(answer["namespaces"]))

    @remote
    def get(
        self,
        ids: Iterable[str] | None = None,
        *,
        where: Where | None = None,
        limit: int | None = None,
        namespace: str = "",
        include: Iterable[Include] = ("metadata", "document"),
    ) -> Request[list[Record]]:
        """Rows by id, by filter, or both, as `Store.get`."""
        body = {
            "ids": None if ids is None else check_ids(ids),
            "where": where_json(where),
            "limit": limit,
            "namespace": check_namespace(namespace),
            "include": names_json(include),
        }
        return self._asking("get", body, _records)

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
        """Rows in order, as `Store.scan`, page by page; each page is of its own moment."""
        wanted = names_json(include)
        body = {
            "where": where_json(where),
            "namespace": namespace,
            "prefix": prefix,
            "include": wanted,
            "order_by": order_by,
            "descending": descending or None,
        }
        if limit == 0 and type(limit) is int:
            self._page(body, 1, after)  # for its errors
            return iter(())
        most = _PAGE_WITH_VECTORS if isinstance(wanted, list) and "vector" in wanted else _PAGE
        size = most if type(limit) is int and limit > most else limit  # other than numbers the server refuses
        return self._pages(body, limit, most, self._page(body, most if size is None else size, after))

    def _pages(
        self, body: dict[str, Any], limit: int | None, most: int, page: tuple[list[Record], str | None]
    ) -> Iterator[Record]:
        left = limit
        while True:
            records, after = page
            yield from records
            if left is not None:
                left -= len(records)
            if after is None or left == 0:
                return
            page = self._page(body, most if left is None else min(most, left), after)

    def _page(self, body: dict[str, Any], limit: Any, after: str | None) -> tuple[list[Record], str | None]:
        """The rows of a page, and the cursor of the next."""
        asked = {**body, "limit": limit, "after": after}
        return self.transport.send(
            self._asking("scan", asked, lambda answer: (_records(answer), answer["next"]))
        )

    @remote
    def count(self, where: Where | None = None, *, namespace: str | None = "") -> Request[int]:
        """How many rows match; `namespace=None` counts those of all namespaces."""
        return self._asking("count", {"where": where_json(where), "namespace": namespace}, count_of)

    @remote
    def facets(
        self, field: str, *, where: Where | None = None, namespace: str | None = "", limit: int | None = None
    ) -> Request[list[Facet]]:
        """Which values a metadata field has, and in how many rows each stands, as `Store.facets`."""
        body = {"field": field, "where": where_json(where), "namespace": namespace, "limit": limit}
        return self._asking("facets", body, lambda answer: from_plain(list[Facet], answer["facets"]))

    @remote
    def sample(
        self,
        n: int,
        *,
        where: Where | None = None,
        namespace: str | None = "",
        seed: int | None = None,
        include: Iterable[Include] = ("metadata", "document"),
    ) -> Request[list[Record]]:
        """Up to n different rows, chosen by chance, as `Store.sample`."""
        body = {
            "n": n,
            "where": where_json(where),
            "namespace": namespace,
            "seed": seed,
            "include": names_json(include),
        }
        return self._asking("sample", body, _records)

    @followed
    def duplicates(
        self,
        above: float = 0.98,
        *,
        where: Where | None = None,
        namespace: str | Iterable[str] | None = "",
        include: Iterable[Include] = ("metadata", "document"),
        limit: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> Request[Iterator[DuplicateGroup]]:
        """Groups of rows whose vectors are nearly equal, as `Store.duplicates`; takes a key that may write.

        All groups come in one answer, at most 10,000 of them.
        """
        body = {
            "above": above,
            "where": where_json(where),
            "namespace": names_json(namespace),
            "include": names_json(include),
            "limit": _MOST_GROUPS if limit is None else limit,
        }
        check_progress(progress)
        return replace(self._asking("duplicates", body, _groups), progress=progress)

    aget = awaited(get)
    """`get`, awaited."""
    acount = awaited(count)
    """`count`, awaited."""
    afacets = awaited(facets)
    """`facets`, awaited."""
    asample = awaited(sample)
    """`sample`, awaited."""

    def __len__(self) -> int:
        """Rows of the default namespace, as `count()`."""
        return self.count()

    def __bool__(self) -> bool:
        """True, for an empty index too."""
        return True


def _records(answer: Any) -> list[Record]:
    return from_plain(list[Record], answer["records"])


def _groups(answer: Any) -> Iterator[DuplicateGroup]:
    return iter(from_plain(list[DuplicateGroup], answer["groups"]))
