"""Aliases: other names of collections, changed several at once, so that an app moves from one to the next.

They lie in one file beside the stores, which all processes that serve the folder read. Only this API knows
them: to the others an index has one name.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from mrlstore.server.bodies import parse_object, shown
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import IndexRoot
from mrlstore.server.operations import Answer
from mrlstore.server.qdrant.answers import answered_with
from mrlstore.server.refusals import HttpRefusal, invalid, not_found
from mrlstore.system.whole_file import whole_file

_LOG: Final = logging.getLogger("mrlstore.server")
_FILE: Final = ".qdrant-aliases.json"
_MOST: Final = 10_000
_ACTIONS: Final = {
    "create_alias": ("alias_name", "collection_name"),
    "delete_alias": ("alias_name",),
    "rename_alias": ("old_alias_name", "new_alias_name"),
}

Names = dict[str, str]  # the collection of each alias


class Aliases:
    """The aliases of a folder of stores."""

    def __init__(self, root: IndexRoot) -> None:
        self._root, self._file = root, root.path / _FILE
        self._stamp: tuple[int, ...] = ()
        self._known: Names = {}

    def collection_of(self, name: str) -> str:
        """The collection that a name or an alias stands for; the name itself where it is neither."""
        return name if self._root.exists(name) else self._names().get(name, name)

    def __contains__(self, name: str) -> bool:
        return name in self._names()

    def change(self, call: HttpCall, body: bytes) -> Answer:
        """POST /collections/aliases: all actions or none; durable when this is answered."""
        actions = parse_object(body).get("actions")
        if not isinstance(actions, list):
            raise invalid(f"actions: expected a list, got {shown(actions)}")
        with self._root.changing():
            names = dict(self._names())
            for at, action in enumerate(actions):
                self._apply(call, names, action, f"actions[{at}]")
            if len(names) > _MOST:
                raise invalid(f"more than {_MOST:,} aliases")
            self._write(names)
        return answered_with(call, True)

    def list_all(self, call: HttpCall, body: bytes) -> Answer:
        """GET /aliases, and GET /collections/NAME/aliases: those of collections that the key opens."""
        only = call.scope["path_params"].get("name")
        found = [
            {"alias_name": alias, "collection_name": name}
            for alias, name in sorted(self._names().items())
            if call.grant.may_use(name) and only in (None, name)
        ]
        return answered_with(call, {"aliases": found})

    def forget(self, collection: str) -> None:
        """Remove the aliases of a collection that was deleted."""
        if collection in self._names().values():
            with self._root.changing():
                self._write({alias: name for alias, name in self._names().items() if name != collection})

    def _apply(self, call: HttpCall, names: Names, action: object, place: str) -> None:
        kind = next(iter(action)) if isinstance(action, dict) and len(action) == 1 else None
        if not isinstance(action, dict) or kind not in _ACTIONS:
            raise invalid(f"{place}: expected one of {', '.join(_ACTIONS)}, got {shown(action)}")
        first, *rest = _texts(action[kind], _ACTIONS[kind], f"{place}.{kind}")
        if kind == "create_alias":
            self._put(call, names, first, rest[0])
            return
        if first not in names:
            raise not_found(f"there is no alias {first!r:.120}")
        call.require_index(names[first])
        collection = names.pop(first)
        if kind == "rename_alias":
            self._put(call, names, rest[0], collection)

    def _put(self, call: HttpCall, names: Names, alias: str, collection: str) -> None:
        if alias in names:
            call.require_index(names[alias])  # it is taken away from there
        call.require_index(collection)
        if self._root.exists(alias):
            raise HttpRefusal(409, "ALREADY_EXISTS", f"there is a collection {alias!r:.120}")
        if not self._root.exists(collection):
            raise not_found(f"there is no collection {collection!r:.120}")
        names[alias] = collection

    def _names(self) -> Names:
        try:
            status = os.stat(self._file)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        except FileNotFoundError:
            return {}
        if stamp != self._stamp:
            try:
                self._known = dict(json.loads(self._file.read_text(encoding="utf-8")))
            except (ValueError, TypeError) as error:
                _LOG.error("the aliases cannot be read: %s", error)
                raise HttpRefusal(500, "DATA_LOSS", "the aliases cannot be read") from error
            self._stamp = stamp
        return self._known

    def _write(self, names: Mapping[str, str]) -> None:
        """Put the file in place whole and synced."""
        with whole_file(self._file) as file:
            file.write(json.dumps(names).encode())


class ByAlias:
    """An endpoint of a route whose parameter `index` may be an alias."""

    def __init__(self, aliases: Aliases, endpoint: ASGIApp) -> None:
        self._aliases, self._endpoint = aliases, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        params: dict[str, Any] = scope["path_params"]
        scope["path_params"] = {**params, "index": self._aliases.collection_of(str(params["index"]))}
        await self._endpoint(scope, receive, send)


def _texts(given: object, names: tuple[str, ...], place: str) -> list[str]:
    values = [given.get(name) for name in names] if isinstance(given, dict) else []
    texts = [value for value in values if isinstance(value, str) and 0 < len(value) <= 100]
    if len(texts) < len(names):
        raise invalid(f"{place}: expected {' and '.join(names)}, up to 100 characters, got {shown(given)}")
    return texts
