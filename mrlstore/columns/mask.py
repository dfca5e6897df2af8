"""Filters evaluated over columns: which rows pass, and which only their JSON can decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.columns.dictionary import Interval, containing, equal_to, is_odd, ordered
from mrlstore.columns.layout import ODD, PRESENT, Field, Layout, read_layout
from mrlstore.columns.verify import verify_layout
from mrlstore.where import And, AnyMember, Contains, Exists, In, Leaf, Node, Not, Or, Range

Fetch = Callable[[NDArray[np.int64]], Sequence[dict[str, Any] | None]]
Codes = list[Interval] | NDArray[np.bool_]  # a set of codes: sorted disjoint intervals, or bool [size]

_FETCH_ROWS: Final = 16_384  # at a time, so that memory stays bounded
_BLOCK: Final = 1 << 16  # codes compared at a time, so that what is between two steps stays in the cache
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
class _Answer:
    """What the columns know: rows that pass, and rows of which only their JSON tells. Both bool [rows]."""

    yes: NDArray[np.bool_]
    ask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _Test:
    """A leaf in terms of one field's codes: which pass; and whether ODD ones must be asked."""

    scalars: Codes
    members: Codes
    ask_scalars: bool = False
    ask_members: bool = False


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
        answer = self._evaluate(node, start, stop)
        if answer.ask is not None:
            asked = np.flatnonzero(answer.ask)
            for first in range(0, asked.size, _FETCH_ROWS):
                page = asked[first : first + _FETCH_ROWS]
                found = [node.matches(metadata) for metadata in fetch(page + start)]
                answer.yes[page] = np.array(found, dtype=np.bool_)
        return answer.yes

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

    def _evaluate(self, node: Node, start: int, stop: int) -> _Answer:
        match node:
            case Leaf():
                return self._leaf(node, start, stop)
            case Not(clause):
                inner = self._evaluate(clause, start, stop)
                known = inner.yes if inner.ask is None else inner.yes | inner.ask
                return _Answer(np.logical_not(known, out=known), inner.ask)
            case And(clauses):
                answer = self._evaluate(clauses[0], start, stop)
                for clause in clauses[1:]:
                    if answer.ask is None and not answer.yes.any():
                        break
                    answer = _both(answer, self._evaluate(clause, start, stop))
                return answer
            case Or(clauses):
                answer = self._evaluate(clauses[0], start, stop)
                for clause in clauses[1:]:
                    answer = _either(answer, self._evaluate(clause, start, stop))
                return answer
        raise TypeError(f"{type(node).__name__} is no condition")

    def _leaf(self, leaf: Leaf, start: int, stop: int) -> _Answer:
        yes = np.zeros(stop - start, dtype=np.bool_)
        field = self._field(leaf.field)
        if field is None:
            return _Answer(yes, self._overflowing(start, stop))
        codes, rows = _span(field.codes, None if field.dense else field.rows, start, stop)
        members, member_rows = _span(field.member_codes, field.member_rows, start, stop)
        test = _test(leaf, field, codes)
        _mark(yes, codes, rows, test.scalars, start)
        _mark(yes, members, member_rows, test.members, start)
        ask_scalars = test.ask_scalars and field.odd_scalars > 0
        ask_members = test.ask_members and field.odd_members > 0
        if not ask_scalars and not ask_members:
            return _Answer(yes)
        ask = np.zeros(stop - start, dtype=np.bool_)
        if ask_scalars:
            _mark(ask, codes, rows, _ODD, start)
        if ask_members:
            _mark(ask, members, member_rows, _ODD, start)
        ask &= ~yes
        return _Answer(yes, ask if ask.any() else None)

    def _field(self, name: str) -> Field | None:
        if name in self._layout.names and name not in self._fields:
            self._fields[name] = self._layout.field(name)
        return self._fields.get(name)

    def _overflowing(self, start: int, stop: int) -> NDArray[np.bool_] | None:
        """The rows that have a path without a column, for which a path that is not here is undecided."""
        if not self._layout.overflow.size or start == stop:
            return None
        bits = np.unpackbits(self._layout.overflow[start // 8 : -(-stop // 8)])
        ask = bits[start % 8 : start % 8 + stop - start].astype(np.bool_)
        return ask if ask.any() else None


def open_columns(blob: NDArray[np.uint8]) -> Columns:
    """Open a blob of `build_columns`, mapped or in memory: checks its directory, reads no whole array.

    Raises InvalidColumns. Damage in the arrays is not looked for: masks may then be wrong, no more;
    `Columns.verify` finds it.
    """
    return Columns(read_layout(blob))


def _both(one: _Answer, other: _Answer) -> _Answer:
    if one.ask is None and other.ask is None:
        return _Answer(np.logical_and(one.yes, other.yes, out=one.yes))
    possible = _possible(one) & _possible(other)
    yes = one.yes & other.yes
    return _Answer(yes, possible & ~yes)


def _either(one: _Answer, other: _Answer) -> _Answer:
    yes = one.yes | other.yes
    if one.ask is None and other.ask is None:
        return _Answer(yes)
    return _Answer(yes, (_possible(one) | _possible(other)) & ~yes)


def _possible(answer: _Answer) -> NDArray[np.bool_]:
    return answer.yes if answer.ask is None else answer.yes | answer.ask


def _test(leaf: Leaf, field: Field, codes: NDArray[Any]) -> _Test:
    """The leaf in terms of this field's codes; `codes` are those of the rows in question."""
    match leaf:
        case AnyMember(_, values):
            return _Test([], equal_to(field, values), ask_members=any(map(is_odd, values)))
        case In(_, values):
            same, odd = equal_to(field, values), any(map(is_odd, values))
            return _Test(same, same, odd, odd)
        case Range(_, op, operand):
            same = ordered(field, op, operand)
            return _Test(same, same, True, True)
        case Contains(_, str(value)):
            return _Test(containing(field, value, codes), equal_to(field, (value,)), True, is_odd(value))
        case Contains(_, value):
            return _Test([], equal_to(field, (value,)), ask_members=is_odd(value))
        case Exists():
            return _Test([(PRESENT, field.size)], [])
    raise TypeError(f"{type(leaf).__name__} is no condition")


def _span(
    codes: NDArray[Any], rows: NDArray[np.uint32] | None, start: int, stop: int
) -> tuple[NDArray[Any], NDArray[np.uint32] | None]:
    """The codes of the rows from start up to stop, and their rows (None: they are consecutive)."""
    if rows is None:
        return codes[start:stop], None
    first, last = np.searchsorted(rows, np.array([start, stop], dtype=np.uint32)).tolist()
    return codes[first:last], rows[first:last]


def _mark(
    mask: NDArray[np.bool_], codes: NDArray[Any], rows: NDArray[np.uint32] | None, wanted: Codes, start: int
) -> None:
    """Set the mask, bool [rows], where a row's code is wanted. Codes and rows out of range do no harm."""
    if codes.size == 0 or len(wanted) == 0:
        return
    if rows is None:
        _compare(codes, wanted, mask)
        return
    hits = np.empty(codes.size, dtype=np.bool_)
    _compare(codes, wanted, hits)
    places = rows[hits].astype(np.int64) - start
    mask[places[(places >= 0) & (places < mask.size)]] = True


def _compare(codes: NDArray[Any], wanted: Codes, out: NDArray[np.bool_]) -> None:
    """out[i] = codes[i] is wanted, bool [codes]."""
    if isinstance(wanted, list) and len(wanted) > _MAX_INTERVALS:
        table = np.zeros(wanted[-1][1] + 1, dtype=np.bool_)  # one more: larger codes are clipped to it
        for low, high in wanted:
            table[low:high] = True
        wanted = table
    scratch = np.empty(min(_BLOCK, codes.size), dtype=codes.dtype)
    hits = np.empty(scratch.size, dtype=np.bool_)
    for first in range(0, codes.size, _BLOCK):
        block, into = codes[first : first + _BLOCK], out[first : first + _BLOCK]
        if not isinstance(wanted, list):
            np.take(wanted, block, out=into, mode="clip")
            continue
        _within(block, wanted[0], scratch[: block.size], into)
        for interval in wanted[1:]:
            _within(block, interval, scratch[: block.size], hits[: block.size])
            np.logical_or(into, hits[: block.size], out=into)


def _within(codes: NDArray[Any], interval: Interval, scratch: NDArray[Any], out: NDArray[np.bool_]) -> None:
    low, high = interval
    one = codes.dtype.type
    if high == low + 1:
        np.equal(codes, one(low), out=out)
    else:  # one comparison for both ends: what is below wraps around to the top
        np.subtract(codes, one(low), out=scratch)
        np.less(scratch, one(high - low), out=out)
