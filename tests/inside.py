"""The one door from tests to the library's private parts: when one of them moves, only this file changes."""

from __future__ import annotations

import threading
import time
from importlib import import_module
from typing import Any

import mrlstore.telemetry
from mrlstore.api.store import Store
from mrlstore.catalogue import connection, rows
from mrlstore.catalogue.rows import Row
from mrlstore.cli.demo import corpus
from mrlstore.search import searcher

# Limits that tests make small, so that few rows reach them: what pytest's monkeypatch takes.
EXPORT_PAGE = "mrlstore.exchange.exporting._PAGE"
EXPORT_BLOCK_BYTES = "mrlstore.exchange.exporting._BLOCK_BYTES"
CLUSTER_PAUSE_S = "mrlstore.cluster.sharded_writing._PAUSE_S"
WRITER_LOG_S = "mrlstore.cluster.shard_writer._LOG_S"
OUTBOX_MOST_BYTES = "mrlstore.cluster.outbox.MOST_BYTES"
OUTBOX_ROOM_S = "mrlstore.cluster.outbox._ROOM_S"
CLOSING_DRAIN_S = "mrlstore.cluster.running_shard._DRAIN_S"
IMPORT_ROWS = "mrlstore.cluster.one_store._ROWS"
IS_POWER_OF_TWO = "mrlstore.cluster.home.is_power_of_two"
CLUSTER_LOOK_S = "mrlstore.cluster.running_shard.LOOK_S"
SHARED_STORE_PAUSE_S = "mrlstore.cluster.shared_store._PAUSE_S"
WRITER_PAUSE_S = "mrlstore.cluster.shard_writer._PAUSE_S"
COLUMN_BATCH_CHARACTERS = "mrlstore.columns.build._BATCH_CHARACTERS"
COLUMN_SORTED_AT_ONCE = "mrlstore.columns.build._SORTED_AT_ONCE"
COLUMN_CHUNK_BYTES = "mrlstore.columns.dictionary._CHUNK_BYTES"
DUPLICATES_DEEPER = "mrlstore.search.near_duplicates.DEEPER"
OBJECT_FILES_OPEN = "mrlstore.exchange.object_files.open_storage"
OBJECT_FILES_PIECE = "mrlstore.exchange.object_files._PIECE"
BEFORE_A_MERGE = "mrlstore.maintenance.steps._check_free_space"
MASK_FETCH_ROWS = "mrlstore.columns.mask._FETCH_ROWS"
MASK_BLOCK = "mrlstore.columns.mask._BLOCK"
MASK_MAX_INTERVALS = "mrlstore.columns.mask._MAX_INTERVALS"
TEXTS_IN_MEMORY = "mrlstore.maintenance.columns_part._IN_MEMORY"
TEXT_BLOCKS = "mrlstore.maintenance.columns_part._blocks"
SEARCHERS_MASK_BYTES = "mrlstore.search.searcher._MASK_BYTES"
OPEN_SQLITE = "mrlstore.catalogue.connection._open"
CONNECT = "mrlstore.catalogue.connection._connect"
HNSWLIB_ANSWER_S = "mrlstore.exchange.migrate.hnswlib_process._LONGEST_S"
WAL_MAPS = "mrlstore.catalogue.wal_index._MAPS"

file_of_demo = corpus._of_file
html_text = import_module("mrlstore.ingest.html_text").html_text
split_front_matter = import_module("mrlstore.ingest.front_matter").split_front_matter
blocks_of_rows = import_module("mrlstore.maintenance.columns_part")._blocks
crc_steps = import_module("mrlstore.storage.row_texts")._crc_steps
passages_of = import_module("mrlstore.search.passages").passages_of
row_crc = rows._crc
open_sqlite = connection._open
connect = connection._connect  # opens one SQLite connection
known_filters = import_module("mrlstore.where.parse")._parsed
FilterParser = import_module("mrlstore.where.parse")._Parser
TELEMETRY_METHODS = mrlstore.telemetry._METHODS
TELEMETRY_STEPS = mrlstore.telemetry._STEPS


def session(store: Any) -> Any:
    """What an open store consists of."""
    assert isinstance(store, Store)
    return store._session


def searchers(snapshot: Any) -> Any:
    """Those that are kept for a snapshot."""
    return snapshot.kept[searcher._KEPT]


def first_segment(store: Any) -> Any:
    """The first mapped segment of what a store sees now."""
    return session(store).snapshots.latest().segments[0].segment


def background_stop(store: Any) -> Any:
    """The event that ends the background thread of a store."""
    assert store._background is not None
    return store._background._stop


def background_works(store: Any) -> bool:
    """Whether a thread does the background work of a store, within 10 s."""
    end = time.monotonic() + 10.0
    while not store._background._threads and time.monotonic() < end:
        time.sleep(0.001)
    return bool(store._background._threads)


def background_is_paused(store: Any) -> bool:
    """Whether background work waits for an optimize() to end."""
    assert store._background is not None
    return bool(store._background.is_paused())


def close_connections(store: Any) -> None:
    """Close the SQLite connections of a store; they are opened again when they are needed."""
    session(store).catalogue.connections._close_all()


def hnswlib_child(origin: Any) -> Any:
    """The process that answers for an index of hnswlib that is moved in."""
    return origin._process._child


def wal_headers(store: Any) -> Any:
    """The mapped header of the log, by which commits of others are noticed."""
    return session(store).catalogue.connections._headers


def fork_waits() -> bool:
    """Whether a fork is keeping threads out of SQLite."""
    return bool(module("mrlstore.system.forks")._closed_by)


def uses_of_sqlite() -> list[int]:
    """The thread of each use of SQLite."""
    found: list[int] = module("mrlstore.system.forks")._inside()
    return found


def fork_of_this_thread() -> Any:
    """What the forks module knows of the fork that this thread prepares."""
    return module("mrlstore.system.forks")._forks[threading.get_ident()][-1]


def roll_back_of(catalogue: Any) -> tuple[Any, str, Any]:
    """Where the rollback of a failed write is: class, name and function."""
    return type(catalogue), "_roll_back", type(catalogue)._roll_back


def changed_row(row: Row, **values: Any) -> Row:
    """A row of the catalogue with other values."""
    return row._replace(**values)


def embedder_threads(embedder: Any) -> Any:
    """The threads of an embedder's async methods."""
    return embedder._threads


def module(name: str) -> Any:
    """A module by its full name, with what it imports for its own use: where tests put in something else."""
    return import_module(name)


def llama_metadata(node: Any) -> dict[str, Any]:
    """The metadata that a row of a LlamaIndex node gets."""
    metadata: dict[str, Any] = module("mrlstore.integrations.llama_index.vector_store")._metadata(node)
    return metadata


def gemini_context(embedder: Any, side: str) -> Any:
    """What a run of a Gemini embedder works with: its client, cache, limits and clock."""
    return embedder._context(side)


def html_of(value: Any) -> str:
    """What a notebook shows of a value, by IPython's protocol."""
    html: str = value._repr_html_()
    return html
