"""`open`: the store at a path, found or created, with its arguments checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args

from mrlstore import checks
from mrlstore.api import arguments
from mrlstore.api.store import Store
from mrlstore.catalogue.keywords import TOKENIZERS
from mrlstore.catalogue.settings import EF_CONSTRUCTION_RANGE, M_RANGE
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput, MrlStoreError
from mrlstore.index.build import require_builder
from mrlstore.storage import create, log_place
from mrlstore.storage.create import Mode
from mrlstore.system import cpus
from mrlstore.system.files import Files
from mrlstore.system.late import LateModule
from mrlstore.types import LIMITS, GraphBuilder, Tokenizer
from mrlstore.writing import writer

# The only name from above this package: `open` opens stores with a log too, which have a writer as shards do.
shared_store: Final = LateModule("mrlstore.cluster.shared_store")
Durability = Literal["local", "shared"]


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
    durability: Durability | None = None,
    ship_to: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Store:
    """Open the store at `path`, or create it.

    Args:
        path: a folder of the store's own, by custom `NAME.mrl`; on a local file system.
        dim: dimensions of the vectors, 2 to 8,192. None: those of the store, or of the first write.
        prefix_dim: leading dimensions that are indexed; by default min(768, dim).
        mode: "a" opens or creates, "r" opens read only, "r+" opens for writing and never creates, "x" creates
            and refuses an existing store.
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
        durability: "local" (the default for a new store): a write is on the disk when it returns. "shared":
            it is in a log in object storage too, and survives the loss of the disk; then one process writes,
            see docs/object-storage.md. A store keeps what it was made with.
        ship_to: with durability="shared", the place of the log: "s3://bucket/prefix", "gs://...", "az://..."
            or a folder, for this store alone. What is there already is restored to `path`.
        options: for buckets, as in `Store.ship`.

    Returns:
        The store. Opening reads no vectors and takes milliseconds at any size.

    Raises:
        InvalidInput: an argument is wrong, contradicts the store, or the path is a file.
        StoreNotFound: mode "r" or "r+" and nothing is there.
        StoreExists: mode "x" and something is there.
        CorruptStore: the folder is not empty and not a store, or its catalogue is damaged.
        FormatTooNew: a newer mrlstore wrote it.
        ImportError: graph="hnswlib", not in mode "r", and hnswlib is not installed.
        StoreLocked: another process writes this store with durability="shared"; the message says which.
        ObjectStorageError: with durability="shared", object storage cannot be used.
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
        durability=durability,
        ship_to=ship_to,
        options=options,
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
    durability: Durability | None = None,
    ship_to: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    files: Files,
) -> Store:
    """`open` with other `Files`, with which tests record what is done to the file system and make it fail."""
    place = arguments.check_path(path)
    checks.check_choice(mode, "mode", get_args(Mode))
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
    fresh = create.new_settings(dim, wanted, m, ef_construction, tokenizer, graph)
    try:
        log = _log_of(files, place, mode, durability, ship_to)
        if log is not None:
            store: Store = shared_store.open_shared(
                place,
                log,
                options,
                fresh,
                files,
                mode=mode,
                embedder=embedder,
                auto_maintain=auto_maintain,
                threads=workers,
            )
        else:
            create.ensure(files, place, mode, fresh)
            store = Store(
                place, files, mode=mode, embedder=embedder, auto_maintain=auto_maintain, threads=workers
            )
    except MrlStoreError:
        raise
    except OSError as error:
        raise create.typed(error, place) from error
    try:
        _check_same("dim", dim, store._session.settings.dim)
        _check_same("prefix_dim", prefix_dim, store._session.settings.prefix_dim)
        _check_same("tokenizer", tokenizer, store._session.settings.tokenizer)
        _check_same("graph", graph, store._session.settings.graph, "; set_graph changes it")
    except BaseException:
        store.close()
        raise
    return store


def _log_of(
    files: Files,
    place: Path,
    mode: Mode,
    durability: Durability | None,
    ship_to: str | os.PathLike[str] | None,
) -> str | os.PathLike[str] | None:
    """The URL of the log that writes have to go to; None where the store has none, or is only read."""
    if durability is not None:
        checks.check_choice(durability, "durability", get_args(Durability))
    if mode == "r":
        if durability == "shared" or ship_to is not None:
            raise InvalidInput(
                'durability: goes with writing. Open the path with mode="r" alone to read it here; elsewhere '
                'mrlstore.cluster.connect(ship_to, mode="r") reads'
            )
        return None
    if ship_to is not None and durability != "shared":
        raise InvalidInput('ship_to: goes with durability="shared"; Store.ship sends snapshots alone')
    there = log_place.read(files, place)
    if durability == "local" and there is not None:
        raise InvalidInput(f'durability: the writes of {place} are in the log at {there.url}; give "shared"')
    if ship_to is None and there is None:
        if durability == "shared":
            raise InvalidInput('ship_to: durability="shared" needs the place of the log')
        return None
    return there.url if ship_to is None and there is not None else ship_to


def _check_same(name: str, given: int | str | None, stored: int | str | None, remedy: str = "") -> None:
    if given is not None and stored is not None and given != stored:
        raise InvalidInput(f"{name}: {given} was given, but this store has {stored}{remedy}")
