"""`connect`: an index of a server, found or created."""

from __future__ import annotations

import os
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

from mrlstore.checks import check_choice, check_ids, check_number
from mrlstore.client.remote_store import RemoteStore
from mrlstore.client.transport import Request, Transport
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput, StoreNotFound
from mrlstore.types import GraphBuilder, Tokenizer

_KEY: Final = "MRLSTORE_API_KEY"


def connect(
    url: str,
    *,
    index: str,
    api_key: str | None = None,
    dim: int | None = None,
    prefix_dim: int | None = None,
    mode: Literal["r", "a", "x"] = "a",
    embedder: Embedder | None = None,
    m: int | None = None,
    ef_construction: int | None = None,
    tokenizer: Tokenizer | None = None,
    graph: GraphBuilder | None = None,
    timeout_s: float = 60.0,
) -> RemoteStore:
    """Open an index of a server that `mrlstore serve` runs, or create it. Needs mrlstore[client].

    Args:
        url: of the server, such as "http://localhost:5080".
        index: its name: letters, digits, dashes and dots, up to 100.
        api_key: by default that of the environment variable MRLSTORE_API_KEY.
        dim: as in `open`, as are the next ones; None: those of the index, or of the first write.
        prefix_dim: leading dimensions that are indexed.
        mode: "a" opens or creates, which takes the key of an admin; "r" only reads; "x" creates.
        embedder: turns documents of `add` and texts of queries into vectors here; without it the server
            embeds the texts of queries.
        m: links of each row in the graph.
        ef_construction: effort of building the graph.
        tokenizer: how documents are cut into words.
        graph: what builds the graphs.
        timeout_s: seconds that connecting, sending and each wait for an answer may take.

    Returns:
        The index, with the methods of `Store`.

    Raises:
        InvalidInput: an argument is wrong or contradicts the index.
        StoreNotFound: mode "r" and there is no such index.
        StoreExists: mode "x" and there is one.
        AccessDenied: the key does not allow it.
        ServerError: the server cannot be reached.
    """
    address = _checked_url(url)
    check_ids([index], "index")
    check_choice(mode, "mode", ("r", "a", "x"))
    if check_number(timeout_s, "timeout_s") <= 0:
        raise InvalidInput(f"timeout_s: expected seconds above 0, got {timeout_s}")
    key = os.environ.get(_KEY) if api_key is None else api_key
    transport = Transport(address, key or None, timeout_s)
    wanted: dict[str, Any] = {
        "dim": dim, "prefix_dim": prefix_dim, "tokenizer": tokenizer, "m": m,
        "ef_construction": ef_construction, "graph": graph,
    }  # fmt: skip
    store = RemoteStore(transport, index, embedder=embedder, mode=mode)
    try:
        _ensure(store, index, mode, {name: value for name, value in wanted.items() if value is not None})
    except BaseException:
        store.close()
        raise
    return store


def _checked_url(url: object) -> str:
    """The URL of a server, without a slash at its end."""
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"url: {url!r:.200} is not like http://localhost:5080")
    return parts.geturl().rstrip("/")


def _ensure(store: RemoteStore, index: str, mode: str, wanted: dict[str, Any]) -> None:
    """Create the index where that is due, and compare what it has with what is wanted."""
    transport = store.transport
    create = Request("POST", "/v1/indexes", {"name": index, **wanted}, dict)
    if mode == "x":
        transport.send(create)
        return
    try:
        transport.send(Request("GET", f"/v1/indexes/{quote(index, safe='')}", None, dict))
    except StoreNotFound:
        if mode == "r":
            raise
        transport.send(create)
        return
    if not wanted:
        return
    settings = store.settings
    for name in ("dim", "prefix_dim", "tokenizer", "graph"):
        given, stored = wanted.get(name), getattr(settings, name)
        if given is not None and stored is not None and given != stored:
            raise InvalidInput(f"{name}: {given} was given, but this index has {stored}")
