"""Ranges of times over payloads that hold times as text: RFC 3339 in UTC, as filters compare strings.

The stored text may be a day, `2024-05-31`, or a time with a `T` and seconds, with 3, 6, 9 or no digits of a
fraction, and `Z`, `+00:00` or nothing behind it. The order of such strings is that of the times but for a few
spellings of one moment, which are named one by one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from mrlstore.server.refusals import invalid

_ZONES: Final = ("", "Z", "z", "+00:00", "-00:00")


class _Moment(NamedTuple):
    """A time as the shortest text that no spelling of an earlier time exceeds."""

    text: str
    spellings: tuple[str, ...]  # of the same moment, which a comparison of strings may misplace
    earlier: tuple[str, ...]  # texts of the whole second, which sort behind its fractions


def time_range(key: str, operator: str, value: str, place: str) -> dict[str, Any]:
    """The condition that the time at `key` is "$gt", "$gte", "$lt" or "$lte" another one.

    Raises:
        HttpRefusal: 400, `value` is not a time.
    """
    moment = _moment(value, place)
    before = {"$or": [{key: {"$lt": moment.text}}, {key: {"$in": list(moment.earlier)}}]}
    same = {key: {"$in": list(moment.spellings)}}
    clause = {"$lt": before, "$lte": {"$or": [before, same]}}
    if operator in clause:
        return clause[operator]
    inverse = clause["$lt" if operator == "$gte" else "$lte"]
    return {"$and": [{key: {"$gte": ""}}, {"$not": inverse}]}


def _moment(value: str, place: str) -> _Moment:
    try:
        given = datetime.fromisoformat(value)
        moment = (given.replace(tzinfo=UTC) if given.tzinfo is None else given).astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid(f"{place}: {value!r:.60} is not a time such as 2024-05-31T10:00:00Z") from None
    second = moment.strftime("%Y-%m-%dT%H:%M:%S").zfill(19)
    fraction = f"{moment.microsecond:06}".rstrip("0")
    digits = [fraction.ljust(length, "0") for length in (1, 2, 3, 6, 9) if length >= len(fraction)]
    stems = [f"{second}.{each}" for each in dict.fromkeys(digits)]
    if fraction:
        whole = tuple(second + zone for zone in _ZONES)
        return _Moment(f"{second}.{fraction}", _zoned(stems), whole)
    stems.insert(0, second)
    if second.endswith(":00"):
        stems.append(second[:-3])
    day, _, clock = second.partition("T")
    if clock == "00:00:00":
        return _Moment(day, (day, *_zoned(stems)), ())
    return _Moment(second, _zoned(stems), ())


def _zoned(stems: list[str]) -> tuple[str, ...]:
    return tuple(stem + zone for stem in stems for zone in _ZONES)
