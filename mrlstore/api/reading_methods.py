"""The methods of `Store` that read rows without a search; they check their arguments and delegate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from mrlstore import checks
from mrlstore.api import arguments
from mrlstore.api.aio import OwnThreads, off_loop
from mrlstore.api.arguments import ProgressCallback
from mrlstore.checks import check_ids, check_namespace
from mrlstore.errors import InvalidInput
from mrlstore.search import facets, near_duplicates, records
from mrlstore.search.field_order import FieldOrder
from mrlstore.search.params import NOTHING, QueryParams, Selection
from mrlstore.search.records import decode_cursor
from mrlstore.types import DuplicateGroup, Facet, Include, Record, Where
from mrlstore.where import check_field, parse


class ReadingMethods(OwnThreads):
    """Rows by id, by filter and in order, and how many there are."""

    def namespaces(self) -> dict[str, int]:
        """How many rows each namespace has. A namespace exists while it has rows."""
        return records.namespaces(self._session)

    def get(
        self,
        ids: Iterable[str] | None = None,
        *,
        where: Where | None = None,
        limit: int | None = None,
        namespace: str = "",
        include: Iterable[Include] = ("metadata", "document"),
    ) -> list[Record]:
        """Rows by id, by filter, or those of `ids` that match the filter; all of one generation.

        Args:
            ids: the rows come in their order; missing ones are skipped. Without ids they come in the order of
                their ids.
            where: a filter on metadata, see docs/filters.md.
            limit: at most so many, 0 or more; None gives all. `scan(after=records[-1].cursor)` goes on.
            namespace: where the ids live.
            include: what records carry: "metadata", "document", "vector" (float32 [dim], of its original
                length).

        Raises:
            InvalidInput: neither ids, nor a filter, nor a limit is given; `scan` goes through all rows.
        """
        check_namespace(namespace)
        names, node = None if ids is None else check_ids(ids), parse(where)
        most = checks.check_optional_count(limit, "limit", 0, 2**63 - 1)
        if names is None and node is None and most is None:
            raise InvalidInput("get: give ids, a where that is not empty, or a limit; scan reads all rows")
        projection = arguments.check_projection(include)
        return records.get(self._session, namespace, Selection(names, node, limit=most), projection)

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
        """Rows in the order of (namespace, id), or of a metadata field.

        Args:
            where: a filter on metadata, see docs/filters.md.
            namespace: whose rows; None goes through those of all.
            prefix: only ids that start with it.
            include: what records carry, as in `get`.
            limit: at most so many, 0 or more; None gives all.
            after: the `cursor` of a record of a scan in the same order, to continue after that record.
            order_by: a metadata field: rows by its value, False, True, numbers, then strings by code points;
                equal ones by (namespace, id). Rows without such a value (no field, null, a list, an object)
                come last.
            descending: the greatest value first; rows without one still come last.

        Returns:
            An iterator, which reads rows as you consume it. They are the rows that existed at the moment of
            the call, except those that are removed before they are reached. An order by a field first reads
            that field of all matching rows.

        Raises:
            InvalidInput: an argument is wrong, or the cursor is of another order.
        """
        if namespace is not None:
            check_namespace(namespace)
        selection = Selection(
            None,
            parse(where),
            arguments.check_prefix(prefix),
            checks.check_optional_count(limit, "limit", 0, 2**63 - 1),
            None if after is None or order_by is not None else decode_cursor(after),
        )
        order, projection = None, arguments.check_projection(include)
        falling = checks.check_flag(descending, "descending")
        if order_by is not None:
            order = FieldOrder(check_field(order_by, "order_by"), falling)
            order = order if after is None else order.decoded(after)
        elif falling:
            raise InvalidInput("descending: goes with order_by, the field that rows are sorted by")
        return records.scan(self._session, self._current, namespace, selection, projection, order)

    def _whole_number_ids(self, where: Where | None, namespace: str) -> NDArray[np.uint64]:
        """The ids that are whole numbers, ascending: for APIs of servers whose ids are numbers."""
        return records.whole_number_ids(self._session, namespace, parse(where))

    def count(self, where: Where | None = None, *, namespace: str | None = "") -> int:
        """How many rows match, with a vector or without; `namespace=None` counts those of all namespaces."""
        if namespace is not None:
            check_namespace(namespace)
        return records.count(self._session, namespace, parse(where))

    def facets(
        self, field: str, *, where: Where | None = None, namespace: str | None = "", limit: int | None = None
    ) -> list[Facet]:
        """Which values a metadata field has, and in how many rows each stands, the most frequent first.

        Args:
            field: the field; a nested one by a dotted path, as in filters.
            where: only rows that match this filter.
            namespace: whose rows; None counts those of all.
            limit: at most so many values, 1 or more; None gives all.

        Returns:
            A `Facet` for each value, equally frequent ones in the order null, False, True, numbers, strings.
            Its `count` is that of the rows that `{field: value}` matches: a list counts for each of its
            members, 1 and 1.0 are one value, 1 and True are two. Rows without the field, and objects, count
            nowhere. All of one generation.

        Raises:
            InvalidInput: an argument is wrong.
        """
        if namespace is not None:
            check_namespace(namespace)
        node, most = parse(where), checks.check_optional_count(limit, "limit", 1, 2**63 - 1)
        return facets.facets(self._session, check_field(field, "field"), namespace, node, most)

    def sample(
        self,
        n: int,
        *,
        where: Where | None = None,
        namespace: str | None = "",
        seed: int | None = None,
        include: Iterable[Include] = ("metadata", "document"),
    ) -> list[Record]:
        """Up to n different rows, chosen by chance, each with the same chance; all of one generation.

        Args:
            n: how many, 0 or more.
            where: only rows that match this filter.
            namespace: whose rows; None takes those of all.
            seed: a whole number; the same number gives the same rows as long as nothing is written.
            include: what records carry, as in `get`.

        Raises:
            InvalidInput: an argument is wrong.
        """
        if namespace is not None:
            check_namespace(namespace)
        wanted = checks.check_count(n, "n", 0, 2**63 - 1)
        fixed = None if seed is None else checks.check_count(seed, "seed", -(2**63), 2**63 - 1)
        node, projection = parse(where), arguments.check_projection(include)
        return records.sample(self._session, wanted, namespace, node, fixed, projection)

    def duplicates(
        self,
        above: float = 0.98,
        *,
        where: Where | None = None,
        namespace: str | Iterable[str] | None = "",
        include: Iterable[Include] = ("metadata", "document"),
        limit: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> Iterator[DuplicateGroup]:
        """Groups of rows whose vectors are nearly equal: boilerplate, reprints, versions of one text.

        Args:
            above: the least cosine similarity of a duplicate with the row that represents its group, above 0
                and at most 1. Equal vectors score 1, give or take 2e-6, which is allowed for.
            where: only rows that match this filter, see docs/filters.md.
            namespace: one namespace, a tuple of several, or None for all. Rows of different ones may then be
                in one group.
            include: what the rows carry, as in `get`.
            limit: at most so many groups, 0 or more; None gives all.
            progress: called with how many rows have been looked at.

        Returns:
            An iterator, which yields each group as soon as it is found; the first ones come at once. A row is
            in one group at most, and its score is the exact cosine on the whole vectors. If you delete the
            duplicates of every group, no two of the remaining rows are so similar, except for pairs that a
            search missed: each row is searched for with a target recall of 0.99. Rows without a vector are in
            no group, nor are rows that are written while the iterator runs.

        Raises:
            InvalidInput: an argument is wrong.
        """
        least = checks.check_number(above, "above")
        if not 0 < least <= 1:
            raise InvalidInput(
                f"above: expected a cosine similarity above 0 and at most 1, got {above!r:.40}"
            )
        params = QueryParams(
            near_duplicates.FIRST_DEPTH,
            checks.check_namespaces(namespace),
            arguments.check_projection(include),
            where=parse(where),
        )
        most = checks.check_optional_count(limit, "limit", 0, 2**63 - 1)
        job = arguments.check_job(progress)
        return near_duplicates.duplicates(self._session, self._current, params, least, most, job)

    def __len__(self) -> int:
        """Rows of the default namespace, as `count()`; `stats().rows` are those of all."""
        return self.count()

    def __bool__(self) -> bool:
        """True, for an empty store too: `store or other` means whether there is a store."""
        return True

    def __contains__(self, id: object) -> bool:
        """Whether the default namespace has this id; False for what cannot be an id."""
        session = self._session
        try:
            names = check_ids([id], "id")  # type: ignore[list-item]
        except InvalidInput:
            return False
        return bool(records.get(session, "", Selection(names), NOTHING))

    aget = off_loop(get)
    """`get`, off the event loop."""
    acount = off_loop(count)
    """`count`, off the event loop."""
    afacets = off_loop(facets)
    """`facets`, off the event loop."""
    asample = off_loop(sample)
    """`sample`, off the event loop."""
