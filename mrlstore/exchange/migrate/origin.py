"""What a migration needs of a database, and which database the name of a source means."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput, MrlStoreError, OriginError
from mrlstore.exchange.input_row import InputRow, Refusal
from mrlstore.exchange.npy import open_array
from mrlstore.types import LIMITS

COSINE: Final = "cosine"
_LONGEST_LINE: Final = 2 * LIMITS.id_bytes  # characters of an id in a text file


@dataclass(frozen=True)
class Collection:
    """One collection, table or namespace of a database."""

    name: str
    rows: int | None = None  # if the database says so
    dim: int | None = None
    metric: str | None = None  # COSINE, or the database's own name of another
    remarks: tuple[str, ...] = ()  # what is not copied, in words


@dataclass(frozen=True)
class RowPage:
    """Some rows, and the mark of where to continue behind them: a JSON value, None at the end."""

    rows: list[InputRow | Refusal]
    after: Any


@dataclass(frozen=True)
class Choice:
    """What the caller chose of a database."""

    collections: tuple[str, ...] = ()  # by name; () for all
    document: str | None = None  # the metadata field that becomes the row's document
    vector: str | None = None  # which vector, where rows have several; the column of a table
    id: str | None = None  # the column of a table that has the ids
    ids: Path | None = None  # a file of ids, for vectors that have numbers or none
    namespace: str | None = None  # where one single collection goes
    omit: tuple[str, ...] = ()  # metadata fields, or columns, that are left out


class Origin(Protocol):
    """A database that rows come from."""

    name: str  # "Qdrant"
    skipped: list[str]  # collections that are left out because they can't be copied, and why, in words

    def collections(self) -> list[Collection]:
        """The chosen ones; InvalidInput if one is not there or can't be copied.

        If none were chosen by name, those that can't be copied are `skipped`.
        """
        ...

    def pages(self, collection: Collection, after: Any) -> Iterator[RowPage]:
        """Its rows in an order that stays the same, behind the `after` of an earlier page."""
        ...

    def ask(self, collection: Collection, vector: NDArray[np.float32], k: int) -> list[str] | None:
        """The ids of the k rows nearest to a vector [dim]; None if the database answers no queries."""
        ...

    def close(self) -> None:
        """Close the database."""
        ...


_KINDS: Final = {
    "qdrant": ("mrlstore.exchange.migrate.qdrant", "QdrantOrigin"),
    "chroma": ("mrlstore.exchange.migrate.chroma", "ChromaOrigin"),
    "lancedb": ("mrlstore.exchange.migrate.lance", "LanceOrigin"),
    "pinecone": ("mrlstore.exchange.migrate.pinecone", "PineconeOrigin"),
    "faiss": ("mrlstore.exchange.migrate.faiss", "FaissOrigin"),
    "hnswlib": ("mrlstore.exchange.migrate.hnswlib_index", "HnswlibOrigin"),
    "file": ("mrlstore.exchange.migrate.plain_file", "FileOrigin"),
}


def open_origin(source: str, choice: Choice | None = None) -> Origin:
    """Open "KIND:PLACE", or a file or a database's folder by its path alone.

    Args:
        source: "qdrant:FOLDER" or "qdrant:URL", "chroma:FOLDER", "lancedb:FOLDER", "faiss:FILE",
            "hnswlib:FILE", "pinecone:INDEX" or "pinecone:HOST", "file:PATH". Keys are read from
            QDRANT_API_KEY and PINECONE_API_KEY.
        choice: which of its collections, and how their fields are understood.

    Raises:
        InvalidInput: there is no such kind, or nothing at this place.
        ImportError: the database's package is not installed; the message says how to get it.
        OriginError: it can't be opened.
    """
    kind, colon, place = source.partition(":")
    if not colon or kind not in _KINDS:
        if colon and not Path(source).exists():
            raise InvalidInput(f"{source!r}: expected a file, or KIND:PLACE with one of {', '.join(_KINDS)}")
        kind, place = _kind_of_folder(Path(source)) if Path(source).is_dir() else "file", source
    module, name = _KINDS[kind]
    with origin_errors(source):
        opened: Origin = getattr(importlib.import_module(module), name)(place, choice or Choice())
    return opened


def _kind_of_folder(folder: Path) -> str:
    """Which database a folder belongs to, by the files that each of them has.

    Raises InvalidInput where none of them is there.
    """
    if (folder / "chroma.sqlite3").is_file():
        return "chroma"
    if (folder / "meta.json").is_file() and (folder / "collection").is_dir():
        return "qdrant"
    if any(table.suffix == ".lance" and table.is_dir() for table in folder.iterdir()):
        return "lancedb"
    if (folder / "catalogue.db").is_file():
        raise InvalidInput(f"{folder} is a store already; export and import copy rows between stores")
    if (folder / "raft_state.json").is_file():
        raise InvalidInput(f"{folder}: the storage of a Qdrant server; start the server, and say qdrant:URL")
    raise InvalidInput(
        f"{folder}: neither a Chroma, nor a LanceDB, nor a local Qdrant database; if it is one all the same, "
        "say chroma:FOLDER, lancedb:FOLDER or qdrant:FOLDER; `mrlstore add` reads folders of texts"
    )


def chosen(there: Sequence[str], choice: Choice, what: str) -> list[str]:
    """The names that were chosen, or all; InvalidInput where one is not there, or there is none."""
    missing = [name for name in choice.collections if name not in there]
    if missing or not there:
        held = ", ".join(map(repr, sorted(there)[:20])) or "none"
        absent = f"no {what} {missing[0]!r}" if missing else f"no {what}s"
        raise InvalidInput(f"{absent}; there are: {held}")
    return list(choice.collections or there)


def copyable(
    there: Sequence[str], choice: Choice, what: str, describe: Callable[[str], Collection], skipped: list[str]
) -> list[Collection]:
    """The chosen collections; with none chosen, those that `describe` refuses are skipped.

    Raises InvalidInput if a chosen one is refused, or all are.
    """
    names = chosen(there, choice, what)
    found = []
    skipped.clear()
    for name in names:
        try:
            found.append(describe(name))
        except InvalidInput as error:
            if choice.collections:
                raise
            skipped.append(f"{error}: left out")
    if not found:
        raise InvalidInput("; ".join(skipped))
    return found


@dataclass(frozen=True)
class SplitMetadata:
    """Metadata with the document taken out."""

    document: str | None
    metadata: dict[str, Any] | None


def split_document(metadata: Mapping[str, Any] | None, choice: Choice) -> SplitMetadata:
    """The field that was chosen as document, if it holds a text, and the rest without what is omitted."""
    rest = {name: value for name, value in (metadata or {}).items() if name not in choice.omit}
    if choice.document is None or not isinstance(rest.get(choice.document), str):
        return SplitMetadata(None, rest or None)
    document = rest.pop(choice.document)
    return SplitMetadata(document, rest or None)


def each_id(file: Path) -> Iterator[str]:
    """The ids of a file: lines of text, or an array [n] of numbers or strings as .npy."""
    if file.suffix != ".npy":
        with file.open(encoding="utf-8") as lines:
            while line := lines.readline(_LONGEST_LINE):
                if len(line) == _LONGEST_LINE:
                    raise InvalidInput(f"{file}: a line of {_LONGEST_LINE:,} characters or more is not an id")
                yield line.rstrip("\r\n")
        return
    names = open_array(file)
    if names.ndim != 1:
        raise InvalidInput(f"{file} must hold one array of ids of shape [rows], not {list(names.shape)}")
    yield from (name.decode() if isinstance(name, bytes) else str(name) for name in names)


def folder_of(place: str, file: str, what: str) -> Path:
    """A folder with a known file in it; some databases would create what is not there."""
    folder = Path(place)
    if not (folder / file).exists():
        raise InvalidInput(f"{place}: no {what}; there is no {file} in it")
    return folder


@contextmanager
def origin_errors(name: str) -> Iterator[None]:
    """What a database's own package raises becomes OriginError; our own errors stay as they are."""
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
