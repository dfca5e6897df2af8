"""The three searches of a group, for a single query."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mrlstore import group as searched
from mrlstore.group import Found, Group, Query


def _alone(search: Callable[..., list[Found]]) -> Callable[..., Found]:
    @functools.wraps(search)
    def one(group: Group, query: Query, *rest: Any, **options: Any) -> Found:
        (found,) = search(group, [query], *rest, **options)
        return found

    return one


search_exact = _alone(searched.search_exact)
search_graph = _alone(searched.search_graph)
search_scan = _alone(searched.search_scan)
