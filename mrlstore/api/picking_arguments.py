"""Checks of what `query` takes beside the usual: examples, pages, groups, diversity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mrlstore.checks import as_list, check_choice, check_count, check_ids, check_optional_count, check_share
from mrlstore.errors import InvalidInput, LimitExceeded
from mrlstore.search.examples import Examples
from mrlstore.search.grouping import Grouping
from mrlstore.search.picked import MOST_DIVERSE, Picking
from mrlstore.types import LIMITS
from mrlstore.where import check_field

_MOST_EXAMPLES = 1_000  # of one kind


def check_examples(positive: object, negative: object) -> Examples:
    """Examples as they were given, their ids checked."""
    if positive is None:
        raise InvalidInput("negative: examples that hits should not be like go with positive ones")
    towards = _some(positive, "positive")
    if not towards:
        raise InvalidInput("positive: give at least one id or vector")
    return Examples(towards, [] if negative is None else _some(negative, "negative"))


def _some(examples: object, name: str) -> list[Any]:
    is_matrix = isinstance(examples, Iterable) and len(getattr(examples, "shape", ())) == 2
    given = list(examples) if is_matrix and isinstance(examples, Iterable) else as_list(examples, name)
    if len(given) > _MOST_EXAMPLES:
        raise LimitExceeded(f"{name}: {len(given)} examples are more than {_MOST_EXAMPLES}")
    for place, example in enumerate(given):
        if isinstance(example, str):
            check_ids([example], f"{name}[{place}]")
    return given


def check_picking(
    k: int, offset: object, group_by: object, group_size: object, diversity: object, candidates: object,
    examples: Examples | None, with_keywords: bool,
) -> Picking | Grouping | None:  # fmt: skip
    """How hits are picked from what is found; None: the best k are the answer."""
    excluded = frozenset() if examples is None else examples.ids
    passed = 0 if offset is None else check_count(offset, "offset", 0)
    if group_by is not None:
        _refuse("group_by", offset=passed, diversity=diversity, candidates=candidates, keywords=with_keywords)
        size = 1 if group_size is None else check_count(group_size, "group_size", 1)
        _check_depth(k * size + len(excluded), "k * group_size")
        return Grouping(check_field(group_by, "group_by"), size, excluded)
    if group_size is not None:
        raise InvalidInput("group_size: goes with group_by, the field of the groups")
    if diversity is None:
        if candidates is not None:
            raise InvalidInput("candidates: go with diversity, which picks among them")
        _check_depth(passed + k + len(excluded), "k and offset")
        return Picking(passed, excluded=excluded) if passed or excluded else None
    _refuse("diversity", keywords=with_keywords)
    among = check_optional_count(candidates, "candidates", 1, MOST_DIVERSE)
    if passed + k > (MOST_DIVERSE if among is None else among):
        raise LimitExceeded(
            f"diversity: k and offset are {passed + k:,} rows, to be picked among "
            f"{MOST_DIVERSE if among is None else among:,} candidates; at most {MOST_DIVERSE:,} can be given"
        )
    return Picking(passed, check_share(diversity, "diversity"), among, excluded)


def ties_go_by_id(ties: object, *, usual: bool) -> bool:
    """Whether equal scores go by id, which only usual queries can have: those that pick nothing."""
    if check_choice(ties, "ties", ("key", "id")) == "id" and not usual:
        raise InvalidInput(
            'ties: "id" cannot be combined with keywords, group_by, offset, diversity or examples'
        )
    return ties == "id"


def _check_depth(rows: int, what: str) -> None:
    if rows > LIMITS.k:
        raise LimitExceeded(
            f"{what}: {rows:,} rows in all, with examples that are left out; at most {LIMITS.k:,}"
        )


def _refuse(what: str, **others: object) -> None:
    for name, value in others.items():
        if value is not None and value is not False and value != 0:
            raise InvalidInput(f"{what}: cannot be combined with {name}")
