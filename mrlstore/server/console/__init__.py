"""The console at `/console`: pages that work with the server's own API. Nothing is loaded from elsewhere.

`static` has htm and Preact as one module, as npm's package htm ships it, with their licences.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from starlette.routing import BaseRoute, Route

from mrlstore.server.api_keys import Role
from mrlstore.server.http_call import HttpCall
from mrlstore.server.operations import Answer, GeneralOperation, Serving
from mrlstore.server.refusals import not_found

OPEN: Final = frozenset({"/console", "/console/"})  # need no key: pages without data
_KINDS: Final = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-cache"),
)


def routes(serving: Serving) -> Sequence[BaseRoute]:
    """The pages, which belong to no API."""
    found = {
        each.name: each.read_bytes() for each in (files(__name__) / "static").iterdir() if each.is_file()
    }

    def page(call: HttpCall, body: bytes) -> Answer:
        name = call.path.removeprefix("/console").strip("/") or "index.html"
        kind = _KINDS.get(name.rpartition(".")[2])
        if kind is None or name not in found:
            raise not_found(f"there is nothing at {call.path:.200}")
        return Answer(found[name], headers=_HEADERS, content_type=kind)

    endpoint = GeneralOperation(serving, "console", Role.READ, page)
    return [Route(path, endpoint, methods=["GET"]) for path in ("/console", "/console/{name:path}")]
