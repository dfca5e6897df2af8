"""What a migration needs to know of a database, and which database a source's name means."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput, MrlStoreError, OriginError
from mrlstore.exchange.input_row import InputRow, Refusal

COSINE: Final = "cosine"


@dataclass(frozen=True)
class Collection:
    """One collection, table or namespace of a database."""

    name: str
    rows: int | None = None  # where the database tells
    dim: int | None = None
    metric: str | None = None  # COSINE, or the database's own word for another
    remarks: tuple[str, ...] = ()  # what does not come over, in words


@dataclass(frozen=True)
class RowPage:
    """Some rows, and where to go on behind them: JSON, None at the end."""

    rows: list[InputRow | Refusal]
    after: Any


@dataclass(frozen=True)
class Choice:
    """What the caller chose of a database."""

    collections: tuple[str, ...] = ()  # by name; () for all
    document: str | None = None  # the metadata field that becomes the row's document
    vector: str | None = None  # which vector, where rows have several; the column of a table
    id: str | None = None  # the column of a table that has the ids
    ids: Path | None = None  # a file of ids, for vectors that have none
    namespace: str | None = None  # where one single collection goes


class Origin(Protocol):
    """A database that rows come from."""

    name: str  # "Qdrant"

    def collections(self) -> list[Collection]:
        """Those that were chosen; InvalidInput where one is not there, or can't be moved."""
        ...

    def pages(self, collection: Collection, after: Any) -> Iterator[RowPage]:
        """Its rows in an order that stays the same, behind the place that an earlier page told."""
        ...

    def ask(self, collection: Collection, vector: NDArray[np.float32], k: int) -> list[str] | None:
        """The ids of the k rows nearest to a vector [dim]; None where the database can't be asked."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


_KINDS: Final = {
    "qdrant": ("mrlstore.exchange.migrate.qdrant", "QdrantOrigin"),
    "chroma": ("mrlstore.exchange.migrate.chroma", "ChromaOrigin"),
    "lancedb": ("mrlstore.exchange.migrate.lance", "LanceOrigin"),
    "pinecone": ("mrlstore.exchange.migrate.pinecone", "PineconeOrigin"),
    "faiss": ("mrlstore.exchange.migrate.faiss", "FaissOrigin"),
    "file": ("mrlstore.exchange.migrate.plain_file", "FileOrigin"),
}


def open_origin(source: str, choice: Choice | None = None) -> Origin:
    """Open "KIND:PLACE", or a file by its path alone.

    Args:
        source: "qdrant:FOLDER" or "qdrant:URL", "chroma:FOLDER", "lancedb:FOLDER", "faiss:FILE",
            "pinecone:INDEX" or "pinecone:HOST", "file:PATH". Keys are read from QDRANT_API_KEY and
            PINECONE_API_KEY.
        choice: what to take of it.

    Raises:
        InvalidInput: there is no such kind, or nothing at this place.
        ImportError: the database's package is not installed; the message says how to get it.
        OriginError: it can't be opened.
    """
    kind, colon, place = source.partition(":")
    if not colon or kind not in _KINDS:
        if colon and not Path(source).exists():
            raise InvalidInput(f"{source!r}: expected a file, or KIND:PLACE with one of {', '.join(_KINDS)}")
        kind, place = "file", source
    module, name = _KINDS[kind]
    with origin_errors(source):
        opened: Origin = getattr(importlib.import_module(module), name)(place, choice or Choice())
    return opened


def chosen(there: Sequence[str], choice: Choice, what: str) -> list[str]:
    """The names that were chosen, or all; InvalidInput where one is not there, or there is none."""
    missing = [name for name in choice.collections if name not in there]
    if missing or not there:
        held = ", ".join(map(repr, sorted(there)[:20])) or "none"
        wanted = f"no {what} {missing[0]!r}" if missing else f"no {what}s"
        raise InvalidInput(f"{wanted}; there are: {held}")
    return list(choice.collections or there)


@dataclass(frozen=True)
class SplitMetadata:
    """Metadata with the document taken out."""

    document: str | None
    metadata: dict[str, Any] = field(default_factory=dict)


def split_document(metadata: dict[str, Any] | None, choice: Choice) -> SplitMetadata:
    """The field that was chosen as document, where it holds a text, and the rest."""
    rest = dict(metadata or {})
    if choice.document is None or not isinstance(rest.get(choice.document), str):
        return SplitMetadata(None, rest)
    return SplitMetadata(rest.pop(choice.document), rest)


def each_id(file: Path) -> Iterator[str]:
    """The ids of a file: lines of text, or an array [n] of numbers or strings as .npy."""
    if file.suffix != ".npy":
        with file.open(encoding="utf-8") as lines:
            yield from (line.rstrip("\r\n") for line in lines)
        return
    try:
        names = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidInput(f"{file} is no .npy file of numbers or strings: {error}") from error
    yield from (str(name) for name in names)


def folder_of(place: str, sign: str, what: str) -> Path:
    """A folder with a known file in it: opening one of these databases would make what is not there."""
    folder = Path(place)
    if not (folder / sign).exists():
        raise InvalidInput(f"{place}: no {what}; there is no {sign} in it")
    return folder


@contextmanager
def origin_errors(name: str) -> Iterator[None]:
    """What a database's own package raises becomes OriginError; what we raise stays as it is."""
    try:
        yield
    except (MrlStoreError, ImportError):
        raise
    except Exception as error:
        raise OriginError(f"{name}: {str(error) or type(error).__name__}") from error


def needed(package: str, install: str) -> Any:
    """A database's package; ImportError says how to get it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"migrating from there needs {install}: pip install {install}") from error
