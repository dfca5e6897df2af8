"""Filters evaluated over columns: which rows pass, and which rows only their JSON decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.columns.dictionary import (
    Interval,
    complement,
    containing,
    equal_to,
    intersected,
    is_odd,
    ordered,
)
from mrlstore.columns.full_check import verify_layout
from mrlstore.columns.layout import NULL, ODD, PRESENT, Field, Layout, read_layout
from mrlstore.columns.row_values import RowValues, Tally, row_values, tally
from mrlstore.where import And, AnyMember, Contains, Exists, In, Leaf, Node, Not, Or, OtherThan, Range, Within

Fetch = Callable[[NDArray[np.int64]], Sequence[dict[str, Any] | None]]
Codes = list[Interval] | NDArray[np.bool_]  # a set of codes: sorted disjoint intervals, or bool [size]

_FETCH_ROWS: Final = 16_384  # at a time, so that memory stays bounded
_BLOCK: Final = 1 << 16  # codes compared at a time, so that intermediate results stay in the cache
_MAX_INTERVALS: Final = 6  # with more of them, looking each code up in a table is faster
_ODD: Final[list[Interval]] = [(ODD, ODD + 1)]


@dataclass(frozen=True)
class FieldSummary:
    """One column: its path, how many rows have it, its distinct scalars, and its bytes in the part."""

    name: str
    rows: int
    distinct: int
    lists: int  # distinct members of lists, summed over the rows
    nbytes: int


@dataclass(frozen=True)
class _Decision:
    """Rows that pass, and rows that only their JSON decides. Both bool [rows]."""

    yes: NDArray[np.bool_]
    undecided: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _Test:
    """A leaf in terms of one field's codes: those that pass, and whether ODD ones stay undecided."""

    scalars: Codes
    members: Codes
    check_scalars: bool = False
    check_members: bool = False


class Columns:
    """The opened columns of one part. Safe to share between threads; holds views of the blob."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._fields: dict[str, Field | None] = {}

    @property
    def rows(self) -> int:
        """How many rows the columns describe."""
        return self._layout.rows

    def mask(self, node: Node, start: int, stop: int, fetch: Fetch) -> NDArray[np.bool_]:
        """Which of the rows from start up to stop pass the filter, bool [stop - start].

        `fetch(rows)`, int64 ascending, gives the metadata of rows that the columns cannot decide: those
        with strings or numbers beyond 256 characters, or with paths beyond the 256 columns. It is not
        called if there are none; else once for each 16,384 of them.
        """
        if not 0 <= start <= stop <= self.rows:
            raise ValueError(f"rows {start} to {stop} of {self.rows}")
        decision = self._evaluate(node, start, stop)
        if decision.undecided is not None:
            rows = np.flatnonzero(decision.undecided)
            for first in range(0, rows.size, _FETCH_ROWS):
                page = rows[first : first + _FETCH_ROWS]
                found = [node.matches(metadata) for metadata in fetch(page + start)]
                decision.yes[page] = np.array(found, dtype=np.bool_)
        return decision.yes

    def tally(self, name: str, rows: NDArray[np.int64]) -> Tally:
        """How many of these rows, ascending, have each value of a field; raises InvalidColumns."""
        field = self._field(name)
        return Tally([], self._unknown(rows)) if field is None else tally(field, rows, self.rows)

    def row_values(self, name: str, rows: NDArray[np.int64]) -> RowValues:
        """The value of a field in each of these rows, ascending; raises InvalidColumns."""
        field = self._field(name)
        if field is not None:
            return row_values(field, rows)
        undecided = np.flatnonzero(np.isin(rows, self._unknown(rows)))
        return RowValues(np.full(len(rows), -1, dtype=np.int64), [], undecided)

    def verify(self) -> list[str]:
        """Read everything and say what is out of range or out of order, in words; empty if nothing is."""
        return verify_layout(self._layout)

    def fields(self) -> list[FieldSummary]:
        """One summary for each column, those that most rows have first."""
        found = [self._layout.field(name) for name in self._layout.names]
        return [
            FieldSummary(each.name, each.present, each.distinct, each.member_rows.size, each.nbytes)
            for each in found
            if each is not None
        ]

    def _evaluate(self, node: Node, start: int, stop: int) -> _Decision:
        match node:
            case Leaf():
                return self._leaf([node], start, stop)
            case Not(clause):
                inner = self._evaluate(clause, start, stop)
                known = inner.yes if inner.undecided is None else inner.yes | inner.undecided
                return _Decision(np.logical_not(known, out=known), inner.undecided)
            case And(clauses):
                ranges, others = self._fused(clauses)
                decisions = [partial(self._leaf, leaves, start, stop) for leaves in ranges]
                decisions += [partial(self._evaluate, clause, start, stop) for clause in others]
                return _all(decisions)
            case Or(clauses):
                decision = self._evaluate(clauses[0], start, stop)
                for clause in clauses[1:]:
                    decision = _either(decision, self._evaluate(clause, start, stop))
                return decision
        raise TypeError(f"{type(node).__name__} is not a condition")

    def _fused(self, clauses: Sequence[Node]) -> tuple[list[list[Range]], list[Node]]:
        """The ranges over plain fields, those of one field together, to be one comparison; and the rest.

        A field with lists is not plain: `$gt` and `$lt` may be met by different members of one list.
        """
        ranges: dict[str, list[Range]] = {}
        others: list[Node] = []
        for clause in clauses:
            field = self._field(clause.field) if isinstance(clause, Range) else None
            if isinstance(clause, Range) and field and not field.member_codes.size and not field.odd_scalars:
                ranges.setdefault(clause.field, []).append(clause)
            else:
                others.append(clause)
        return list(ranges.values()), others

    def _leaf(self, leaves: Sequence[Leaf], start: int, stop: int) -> _Decision:
        """The rows on which these leaves hold; if there are several, they come from `_fused`."""
        field = self._field(leaves[0].field)
        if field is None:
            return _Decision(np.zeros(stop - start, dtype=np.bool_), self._overflowing(start, stop))
        codes, rows = _slice(field.codes, None if field.dense else field.rows, start, stop)
        members, member_rows = _slice(field.member_codes, field.member_rows, start, stop)
        test = _test(leaves[0], field, codes)
        if len(leaves) > 1:
            test = _Test(
                intersected(
                    [ordered(field, leaf.op, leaf.operand) for leaf in leaves if isinstance(leaf, Range)]
                ),
                [],
            )
        yes = _mark(codes, rows, test.scalars, start, stop)
        if len(test.members) and members.size:
            yes |= _mark(members, member_rows, test.members, start, stop)
        check_scalars = test.check_scalars and field.odd_scalars > 0
        check_members = test.check_members and field.odd_members > 0
        if not check_scalars and not check_members:
            return _Decision(yes)
        undecided = _mark(codes, rows, _ODD if check_scalars else [], start, stop)
        if check_members and members.size:
            undecided |= _mark(members, member_rows, _ODD, start, stop)
        undecided &= ~yes
        return _Decision(yes, undecided if undecided.any() else None)

    def _field(self, name: str) -> Field | None:
        if name in self._layout.names and name not in self._fields:
            self._fields[name] = self._layout.field(name)
        return self._fields.get(name)

    def _unknown(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the rows that have a path without a column."""
        overflowing = self._overflowing(0, self.rows)
        return rows[:0] if overflowing is None else rows[overflowing[rows]]

    def _overflowing(self, start: int, stop: int) -> NDArray[np.bool_] | None:
        """The rows that have a path without a column, for which a path that is not here is undecided."""
        if not self._layout.overflow.size or start == stop:
            return None
        bits = np.unpackbits(self._layout.overflow[start // 8 : -(-stop // 8)])
        undecided = bits[start % 8 : start % 8 + stop - start].astype(np.bool_)
        return undecided if undecided.any() else None


def open_columns(blob: NDArray[np.uint8]) -> Columns:
    """Open a blob of `build_columns`, mapped or in memory: checks its directory, reads no whole array.

    Raises InvalidColumns. Damaged arrays give wrong masks but no wrong reads;
    `Columns.verify` finds them.
    """
    return Columns(read_layout(blob))


def _all(decisions: Sequence[Callable[[], _Decision]]) -> _Decision:
    """The rows that pass all decisions, one or more; once no row can, the others are not made."""
    decision = decisions[0]()
    for following in decisions[1:]:
        if decision.undecided is None and not decision.yes.any():
            break
        other = following()
        yes = decision.yes & other.yes
        if decision.undecided is None and other.undecided is None:
            decision = _Decision(yes)
        else:
            decision = _Decision(yes, _possible(decision) & _possible(other) & ~yes)
    return decision


def _either(one: _Decision, other: _Decision) -> _Decision:
    yes = one.yes | other.yes
    if one.undecided is None and other.undecided is None:
        return _Decision(yes)
    return _Decision(yes, (_possible(one) | _possible(other)) & ~yes)


def _possible(decision: _Decision) -> NDArray[np.bool_]:
    return decision.yes if decision.undecided is None else decision.yes | decision.undecided


def _test(leaf: Leaf, field: Field, codes: NDArray[Any]) -> _Test:
    """The leaf in terms of this field's codes; `codes` are those of the rows in question."""
    match leaf:
        case AnyMember(_, values):
            return _Test([], equal_to(field, values), check_members=any(map(is_odd, values)))
        case OtherThan(_, values):
            odd = any(map(is_odd, values))
            others = complement(field, NULL if odd else ODD, equal_to(field, values))
            return _Test(others, others, odd, odd)
        case In(_, values):
            same, odd = equal_to(field, values), any(map(is_odd, values))
            return _Test(same, same, odd, odd)
        case Range(_, op, operand):
            return _Test(ordered(field, op, operand), [], check_scalars=True)
        case Within(_, bounds):
            inside = intersected([ordered(field, bound.op, bound.operand) for bound in bounds])
            return _Test(inside, inside, check_scalars=True, check_members=True)
        case Contains(_, str(value)):
            return _Test(containing(field, value, codes), equal_to(field, (value,)), True, is_odd(value))
        case Contains(_, value):
            return _Test([], equal_to(field, (value,)), check_members=is_odd(value))
        case Exists():
            return _Test([(PRESENT, field.size)], [])
    raise TypeError(f"{type(leaf).__name__} is not a condition")


def _slice(
    codes: NDArray[Any], rows: NDArray[np.uint32] | None, start: int, stop: int
) -> tuple[NDArray[Any], NDArray[np.uint32] | None]:
    """The codes of the rows from start up to stop, and their rows (None: they are consecutive)."""
    if rows is None:
        return codes[start:stop], None
    first, last = np.searchsorted(rows, np.array([start, stop], dtype=np.uint32)).tolist()
    return codes[first:last], rows[first:last]


def _mark(
    codes: NDArray[Any], rows: NDArray[np.uint32] | None, chosen: Codes, start: int, stop: int
) -> NDArray[np.bool_]:
    """Which of the rows from start up to stop have a chosen code, bool [stop - start].

    `rows` are those of the codes; None means that there is one code for each row in turn. Codes and rows
    that are out of range are ignored.
    """
    if len(chosen) == 0 or codes.size == 0:
        return np.zeros(stop - start, dtype=np.bool_)
    hits = _among(codes, chosen)
    if rows is None:
        return hits
    mask = np.zeros(stop - start, dtype=np.bool_)
    positions = rows[np.flatnonzero(hits)].astype(np.int64) - start
    if positions.size and (positions.min() < 0 or positions.max() >= mask.size):
        positions = positions[(positions >= 0) & (positions < mask.size)]
    mask[positions] = True
    return mask


def _among(codes: NDArray[Any], chosen: Codes) -> NDArray[np.bool_]:
    """Whether each code is chosen, bool [codes]. `chosen` is not empty."""
    if isinstance(chosen, list) and len(chosen) > _MAX_INTERVALS:
        chosen = _table(chosen)
    out = np.empty(codes.size, dtype=np.bool_)
    if isinstance(chosen, list) and len(chosen) == 1 and chosen[0][1] == chosen[0][0] + 1:
        np.equal(codes, codes.dtype.type(chosen[0][0]), out=out)
        return out
    scratch = np.empty(min(_BLOCK, codes.size), dtype=codes.dtype)
    hits = np.empty(scratch.size, dtype=np.bool_)
    for first in range(0, codes.size, _BLOCK):
        block, into = codes[first : first + _BLOCK], out[first : first + _BLOCK]
        if not isinstance(chosen, list):
            _look_up(block, chosen, into)
            continue
        _within(block, chosen[0], scratch[: block.size], into)
        for interval in chosen[1:]:
            _within(block, interval, scratch[: block.size], hits[: block.size])
            np.logical_or(into, hits[: block.size], out=into)
    return out


def _table(intervals: list[Interval]) -> NDArray[np.bool_]:
    """The intervals as bool [codes + 1]; codes that are too large are clipped to the last entry, False."""
    table = np.zeros(intervals[-1][1] + 1, dtype=np.bool_)
    for low, high in intervals:
        table[low:high] = True
    return table


def _look_up(codes: NDArray[Any], table: NDArray[np.bool_], out: NDArray[np.bool_]) -> None:
    if codes.itemsize == 1:  # bytes.translate is a third faster than take
        every = np.zeros(256, dtype=np.uint8)
        every[: table.size] = table[:256]
        out[:] = np.frombuffer(codes.tobytes().translate(every.tobytes()), dtype=np.bool_)
    else:
        np.take(table, codes, out=out, mode="clip")


def _within(codes: NDArray[Any], interval: Interval, scratch: NDArray[Any], out: NDArray[np.bool_]) -> None:
    low, high = interval
    one = codes.dtype.type
    if high == low + 1:
        np.equal(codes, one(low), out=out)
    else:  # one comparison for both ends: smaller codes wrap around to large ones
        np.subtract(codes, one(low), out=scratch)
        np.less(scratch, one(high - low), out=out)
