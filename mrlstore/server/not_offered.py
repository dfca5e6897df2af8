"""Routes of what a hosted database offers and this server does not: each is answered by a 400 that says so.

501 would be retried by clients until nobody sees the message, and 404 means a missing index to them.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route

from mrlstore.server.api_keys import Role
from mrlstore.server.http_call import HttpCall
from mrlstore.server.operations import Answer, GeneralOperation, Serving
from mrlstore.server.refusals import invalid


def refusing(serving: Serving, table: Sequence[tuple[str, Sequence[str], str]]) -> list[BaseRoute]:
    """Routes that refuse; a line of the table has a path, its methods, and the message."""
    return [
        Route(path, _refusal(serving, message), methods=list(methods)) for path, methods, message in table
    ]


def _refusal(serving: Serving, message: str) -> GeneralOperation:
    def refuse(call: HttpCall, body: bytes) -> Answer:
        raise invalid(message)

    return GeneralOperation(serving, "not offered", Role.READ, refuse)
