"""`ApiFamily`: one API that clients speak here, with its routes and the shape of its errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.routing import BaseRoute

from mrlstore.server.refusals import HttpRefusal


@dataclass(frozen=True)
class ApiFamily:
    """An API.

    `name` stands in metrics and in the log. Paths below `prefix` belong to it, the longest prefix first; ""
    has all the others. `error_body` writes a refusal as its clients read it.
    """

    name: str
    prefix: str
    routes: Sequence[BaseRoute]
    error_body: Callable[[HttpRefusal], bytes]
