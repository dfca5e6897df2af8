"""`open`: the store at a path, found or created, with its arguments checked."""

from __future__ import annotations

import os
from typing import get_args

from mrlstore import checks
from mrlstore.api import arguments
from mrlstore.api.store import Store
from mrlstore.catalogue.keywords import TOKENIZERS
from mrlstore.catalogue.settings import EF_CONSTRUCTION_RANGE, M_RANGE
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput, MrlStoreError
from mrlstore.index.build import require_builder
from mrlstore.storage import create
from mrlstore.storage.create import Mode
from mrlstore.system import cpus
from mrlstore.system.files import Files
from mrlstore.types import LIMITS, GraphBuilder, Tokenizer
from mrlstore.writing import writer


def open(  # noqa: A001
    path: str | os.PathLike[str],
    *,
    dim: int | None = None,
    prefix_dim: int | None = None,
    mode: Mode = "a",
    embedder: Embedder | None = None,
    m: int = 16,
    ef_construction: int = 200,
    auto_maintain: bool = True,
    threads: int | None = None,
    tokenizer: Tokenizer | None = None,
    graph: GraphBuilder | None = None,
) -> Store:
    """Open the store at `path`, or create it.

    Args:
        path: a folder of the store's own, by custom `NAME.mrl`; on a local file system.
        dim: dimensions of the vectors, 2 to 8,192. None: those of the store, or of the first write.
        prefix_dim: leading dimensions that are indexed; by default min(768, dim).
        mode: "a" opens or creates, "r" opens read only, "x" creates and refuses an existing store.
        embedder: turns documents and query texts into vectors, for `add` and `query(text=...)`.
        m: links of each row in the graph, 2 to 100 (HNSW's M); for a new store.
        ef_construction: effort of building the graph, 8 to 2,000; for a new store.
        auto_maintain: index and merge in a background thread. Without it, call `optimize`.
        threads: how many threads builds and batches use; by default the processors that the process may use.
        tokenizer: how documents are cut into words for `query(keywords=...)`, for a new store: "unicode61"
            (words without their accents; the default), "porter" (English words by their stems) or "trigram"
            (three letters at a time, for languages that are written without spaces); see docs/keywords.md.
        graph: what builds the graphs of a new store: "mrlstore" (the default) from the int8 codes, or
            "hnswlib" from the float32 prefixes, which needs the extra mrlstore[hnswlib] and more memory; see
            docs/graphs.md. `Store.set_graph` changes it.

    Returns:
        The store. Opening reads no vectors and takes milliseconds at any size.

    Raises:
        InvalidInput: an argument is wrong, contradicts the store, or the path is a file.
        StoreNotFound: mode "r" and nothing is there.
        StoreExists: mode "x" and something is there.
        CorruptStore: the folder is not empty and not a store, or its catalogue is damaged.
        FormatTooNew: a newer mrlstore wrote it.
        ImportError: graph="hnswlib", not in mode "r", and hnswlib is not installed.
    """
    return open_store(
        path,
        dim=dim,
        prefix_dim=prefix_dim,
        mode=mode,
        embedder=embedder,
        m=m,
        ef_construction=ef_construction,
        auto_maintain=auto_maintain,
        threads=threads,
        tokenizer=tokenizer,
        graph=graph,
        files=Files(),
    )


def open_store(
    path: str | os.PathLike[str],
    *,
    dim: int | None = None,
    prefix_dim: int | None = None,
    mode: Mode = "a",
    embedder: Embedder | None = None,
    m: int = 16,
    ef_construction: int = 200,
    auto_maintain: bool = True,
    threads: int | None = None,
    tokenizer: Tokenizer | None = None,
    graph: GraphBuilder | None = None,
    files: Files,
) -> Store:
    """`open` with other `Files`, with which tests record what is done to the file system and make it fail."""
    place = arguments.check_path(path)
    checks.check_choice(mode, "mode", ("r", "a", "x"))
    checks.check_optional_count(dim, "dim", LIMITS.min_dim, LIMITS.max_dim)
    checks.check_optional_count(prefix_dim, "prefix_dim", 1, dim or LIMITS.max_dim)
    checks.check_count(m, "m", *M_RANGE)
    checks.check_count(ef_construction, "ef_construction", *EF_CONSTRUCTION_RANGE)
    checks.check_flag(auto_maintain, "auto_maintain")
    arguments.check_embedder(embedder)
    workers = checks.check_optional_count(threads, "threads", 1, 1024) or cpus.available()
    if tokenizer is not None:
        checks.check_choice(tokenizer, "tokenizer", tuple(TOKENIZERS))
    if graph is not None:
        checks.check_choice(graph, "graph", get_args(GraphBuilder))
        if mode != "r":
            require_builder(graph)
    wanted = prefix_dim if prefix_dim is not None or dim is None else min(writer.DEFAULT_PREFIX_DIM, dim)
    try:
        fresh = create.new_settings(dim, wanted, m, ef_construction, tokenizer, graph)
        create.ensure(files, place, mode, fresh)
    except MrlStoreError:
        raise
    except OSError as error:
        raise create.typed(error, place) from error
    store = Store(place, files, mode=mode, embedder=embedder, auto_maintain=auto_maintain, threads=workers)
    try:
        _check_same("dim", dim, store._session.settings.dim)
        _check_same("prefix_dim", prefix_dim, store._session.settings.prefix_dim)
        _check_same("tokenizer", tokenizer, store._session.settings.tokenizer)
        _check_same("graph", graph, store._session.settings.graph, "; set_graph changes it")
    except BaseException:
        store.close()
        raise
    return store


def _check_same(name: str, given: int | str | None, stored: int | str | None, remedy: str = "") -> None:
    if given is not None and stored is not None and given != stored:
        raise InvalidInput(f"{name}: {given} was given, but this store has {stored}{remedy}")
