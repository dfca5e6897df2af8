"""The catalogue's `settings` table: named values and counters, each with its crc."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Final, NamedTuple, cast, get_args

from mrlstore.catalogue.connection import Connection, matches
from mrlstore.catalogue.schema import FORMAT_VERSION
from mrlstore.errors import CorruptStore, FormatTooNew
from mrlstore.types import LIMITS, GraphBuilder, Settings, Tokenizer

Value = int | str | None

FIRST_WITH_KEYWORDS = 2  # the first format version with a keyword index
M_RANGE: Final = (2, 100)  # links of a row in the graph
EF_CONSTRUCTION_RANGE: Final = (8, 2_000)  # candidates that the walk of an insertion keeps
MAX_COUNTER: Final = 2**62  # of row keys and generations: far from the end of SQLite's integers
_RANGES: Final = {"m": M_RANGE, "ef_construction": EF_CONSTRUCTION_RANGE, "format_version": (1, 2**31 - 1)}
_UUID: Final = re.compile("[0-9a-f]{32}")


class Dims(NamedTuple):
    """The dimension of a store's vectors and of their indexed prefix; None before the first vector."""

    dim: int | None
    prefix_dim: int | None


def _crc(name: str, value: Value) -> int:
    return zlib.crc32(f"{name}={value!r}".encode())


def put(connection: Connection, name: str, value: Value) -> None:
    """Write one setting."""
    connection.execute(
        "INSERT OR REPLACE INTO settings(name, value, crc) VALUES (?, ?, ?)", (name, value, _crc(name, value))
    )


def get(connection: Connection, name: str) -> Value:
    """Read one setting; CorruptStore if it is missing or its crc is wrong."""
    row = connection.execute("SELECT value, crc FROM settings WHERE name = ?", (name,)).get
    if row is None:
        raise CorruptStore(connection.filename, f"the setting {name!r} is missing")
    value, crc = row
    if not matches(crc, _crc, name, value):
        raise CorruptStore(connection.filename, f"the setting {name!r} does not match its crc")
    return value  # type: ignore[no-any-return]


def get_int(connection: Connection, name: str) -> int:
    """Read one whole-number setting; CorruptStore where it is none, or out of its range."""
    value = get(connection, name)
    low, high = _RANGES.get(name, (0, MAX_COUNTER))
    if not isinstance(value, int) or not low <= value <= high:
        raise CorruptStore(connection.filename, f"the setting {name!r} is {value!r:.60}")
    return value


def get_text(connection: Connection, name: str) -> str | None:
    """Read one text setting, or None; CorruptStore where it is neither."""
    value = get(connection, name)
    if value is not None and not isinstance(value, str):
        raise CorruptStore(connection.filename, f"the setting {name!r} is {value!r:.60}")
    return value


def dims(connection: Connection) -> Dims:
    """The dimensions of the store; CorruptStore if they are beyond the limits."""
    dim, prefix_dim = get(connection, "dim"), get(connection, "prefix_dim")
    for name, value, least, most in (
        ("dim", dim, LIMITS.min_dim, LIMITS.max_dim),
        ("prefix_dim", prefix_dim, 1, dim if isinstance(dim, int) else LIMITS.max_dim),
    ):
        if value is not None and not (isinstance(value, int) and least <= value <= most):
            raise CorruptStore(connection.filename, f"the setting {name!r} is {value!r:.60}")
    return Dims(dim, prefix_dim)  # type: ignore[arg-type]


def graph(connection: Connection) -> GraphBuilder:
    """What builds the graphs of the store; CorruptStore where the catalogue names something else.

    Stores that were made before there was a choice lack the setting. Releases that do not know it leave it
    as it is, and search graphs of every builder by the same kernel, so it needed no new format version.
    """
    if connection.execute("SELECT 1 FROM settings WHERE name = 'graph'").get is None:
        return "mrlstore"
    value = get(connection, "graph")
    if value not in get_args(GraphBuilder):
        raise CorruptStore(connection.filename, f"the setting 'graph' is {value!r:.60}")
    return cast(GraphBuilder, value)


def generation(connection: Connection) -> int:
    """The counter that every write transaction raises."""
    return get_int(connection, "generation")


def load(connection: Connection, path: Path) -> Settings:
    """Read what the store was created with; FormatTooNew for a newer format."""
    version = get_int(connection, "format_version")
    if version > FORMAT_VERSION:
        raise FormatTooNew(
            f"{path}: format {version}, this mrlstore reads up to {FORMAT_VERSION}; upgrade mrlstore"
        )
    dim, prefix_dim = dims(connection)
    store_uuid = get_text(connection, "store_uuid")
    if store_uuid is None or not _UUID.fullmatch(store_uuid):
        raise CorruptStore(path, f"the setting 'store_uuid' is {store_uuid!r:.60}")
    tokenizer = get_text(connection, "tokenizer") if version >= FIRST_WITH_KEYWORDS else None
    if version >= FIRST_WITH_KEYWORDS and tokenizer not in get_args(Tokenizer):
        raise CorruptStore(path, f"the setting 'tokenizer' is {tokenizer!r:.60}")
    return Settings(
        store_uuid=store_uuid,
        format_version=version,
        dim=dim,
        prefix_dim=prefix_dim,
        m=get_int(connection, "m"),
        ef_construction=get_int(connection, "ef_construction"),
        tokenizer=None if tokenizer is None else cast(Tokenizer, tokenizer),
        graph=graph(connection),
    )


def save(connection: Connection, settings: Settings) -> None:
    """Write a new store's settings and counters."""
    for name in (
        "store_uuid", "format_version", "dim", "prefix_dim", "m", "ef_construction", "tokenizer", "graph",
    ):  # fmt: skip
        put(connection, name, getattr(settings, name))
    put(connection, "embedder", None)
    put(connection, "generation", 1)
    put(connection, "floor_gen", 0)
    put(connection, "next_key", 1)


def reserve_keys(connection: Connection, count: int) -> int:
    """Reserve `count` consecutive row keys, which are never given out again; returns the first."""
    first = get_int(connection, "next_key")
    put(connection, "next_key", first + count)
    return first
