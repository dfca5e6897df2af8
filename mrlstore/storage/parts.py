"""Parts: immutable folders of arrays, written once, fsynced, then named by the catalogue.

A part holds one `.npy` file for each array and a `part.json` that gives kind, rows, and for every file its
dtype, shape, offset, length and crc32; the catalogue keeps the crc32 of part.json itself. Opening checks
part.json and the length of every file, and maps the arrays without reading them; `check_part` reads them.
What the arrays mean is left to `base_part`, `index.layout` and `columns`.
"""

from __future__ import annotations

import errno
import io
import json
import math
import mmap
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.catalogue.part_ref import PartKind, PartRef
from mrlstore.errors import CorruptStore, FormatTooNew
from mrlstore.system import late
from mrlstore.system.files import Files, Lock, remove_tree, storage_error, write_file

# In format 1 code rows end with their scale; since format 3 index parts know of near copies;
# since format 4 columns parts have the metadata and the short documents of their rows.
FORMAT: Final = 4
Array = NDArray[Any]

_JSON_LIMIT: Final = 16 * 1024 * 1024  # bytes of part.json; a real one has a few thousand
_NAME = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_DTYPES = {"<i8", "<i4", "|i1", "<u4", "<u2", "|u1", "<f8", "<f4", "<f2"}
_BLOCK: Final = 8 * 1024 * 1024  # bytes written, or checked, at a time


@dataclass(frozen=True)
class Stream:
    """An array that is written block by block, each of shape [rows, ...], in order."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    blocks: Iterable[Array]


@dataclass
class NewPart:
    """A part on disk that the catalogue does not name yet; the lock on its folder keeps it from deletion."""

    ref: PartRef
    path: Path
    _lock: Lock
    size: int

    def release(self) -> None:
        """Unlock the folder, once a commit has named the part."""
        self._lock.release()

    def discard(self, files: Files) -> None:
        """Remove the folder, since there was no commit. What stays is left to garbage collection."""
        with suppress(OSError):
            remove_tree(files, self.path)
        self._lock.release()


@dataclass(frozen=True)
class FileEntry:
    """One array file as part.json describes it."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int  # of the numbers, behind the .npy header
    bytes: int  # of the numbers
    crc: int  # of the whole file


class RandomMap(NamedTuple):
    """A second map of an array, for reading single rows: the kernel reads no pages ahead (MADV_RANDOM)."""

    array: Array
    mapped: mmap.mmap


@dataclass(frozen=True)
class Part:
    """An open part: its arrays are read-only views of maps, valid as long as they are referenced."""

    ref: PartRef
    path: Path
    kind: PartKind
    rows: int
    info: Mapping[str, Any]
    entries: Mapping[str, FileEntry]
    arrays: Mapping[str, Array]
    random: Mapping[str, RandomMap] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all array files."""
        return sum(entry.offset + entry.bytes for entry in self.entries.values())


def write_part(
    files: Files,
    parts: Path,
    kind: PartKind,
    rows: int,
    arrays: Mapping[str, Array | Stream],
    *,
    store_uuid: str,
    info: Mapping[str, Any] | None = None,
) -> NewPart:
    """Write a part folder below `parts` and sync all of it; the catalogue may name it when this returns."""
    path, lock = _new_folder(files, parts)
    try:
        entries = {name: _write_array(files, path / f"{name}.npy", array) for name, array in arrays.items()}
        text = json.dumps(
            {
                "kind": kind,
                "format": FORMAT,
                "store": store_uuid,
                "part": path.name,
                "rows": rows,
                "info": dict(info or {}),
                "files": {name: _entry_to_json(entry) for name, entry in entries.items()},
            },
            allow_nan=False,
        ).encode()
        write_file(files, path / "part.json", [text])
        files.sync_dir(path)
        files.sync_dir(parts)
    except BaseException:
        NewPart(PartRef(path.name, 0), path, lock, 0).discard(files)
        raise
    size = len(text) + sum(entry.offset + entry.bytes for entry in entries.values())
    return NewPart(PartRef(path.name, zlib.crc32(text)), path, lock, size)


def open_part(
    files: Files, parts: Path, ref: PartRef, kind: PartKind, store_uuid: str, *, random: tuple[str, ...] = ()
) -> Part:
    """Map a named part. FileNotFoundError if a file is missing, CorruptStore if anything does not fit."""
    try:
        return _open_part(files, parts / ref.name, ref, kind, store_uuid, random)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.ENODEV):
            raise CorruptStore(error.filename or parts / ref.name, "is not a file") from error
        raise storage_error(error, f"opening the part {ref.name}") from error


def _open_part(
    files: Files, path: Path, ref: PartRef, kind: PartKind, store_uuid: str, random: tuple[str, ...]
) -> Part:
    head, entries = _read_head(files, path, ref, kind, store_uuid)
    arrays: dict[str, Array] = {}
    seconds: dict[str, RandomMap] = {}
    for name, entry in entries.items():
        arrays[name], _ = _map_array(files, path / f"{name}.npy", entry)
        if name in random:
            view, mapped = _map_array(files, path / f"{name}.npy", entry)
            if mapped is not None:
                if hasattr(mmap, "MADV_RANDOM"):
                    mapped.madvise(mmap.MADV_RANDOM)
                seconds[name] = RandomMap(view, mapped)
    return Part(ref, path, kind, head["rows"], head["info"], entries, arrays, seconds)


def holds(part: Part, names: Iterable[str]) -> bool:
    """Whether these arrays have their checksums, which reads all of their bytes."""
    for name in names:
        entry, raw = part.entries[name], part.arrays[name].reshape(-1).view(np.uint8).data
        if zlib.crc32(raw, zlib.crc32(_npy_header(entry.dtype, entry.shape))) != entry.crc:
            return False
    return True


def read_entries(
    files: Files, parts: Path, ref: PartRef, kind: PartKind, store_uuid: str
) -> dict[str, FileEntry]:
    """What part.json says of each array's file; CorruptStore if part.json is damaged. No array is opened."""
    return _read_head(files, parts / ref.name, ref, kind, store_uuid)[1]


def check_part(files: Files, part: Part, progress: Callable[[int], None]) -> list[str]:
    """Compare every file with its checksum; the problems, in words. `progress` is called with bytes read."""
    problems = []
    for name, entry in part.entries.items():
        path, crc = part.path / f"{name}.npy", 0
        try:
            size = files.size(path)
            raw = memoryview(files.map(path, size)) if size else memoryview(b"")
        except FileNotFoundError:  # of an empty array: the others were mapped when the part was opened
            if not part.path.is_dir():  # merged away and collected meanwhile
                raise
            problems.append(f"{path.name} is missing")
            continue
        except (IsADirectoryError, ValueError) as error:  # something else was put in its place
            problems.append(f"{path.name}: {error}")
            continue
        for start in range(0, size, _BLOCK):
            block = raw[start : start + _BLOCK]
            crc = zlib.crc32(block, crc)
            progress(len(block))
        if size != entry.offset + entry.bytes:
            problems.append(f"{path.name}: {size} bytes, part.json says {entry.offset + entry.bytes}")
        elif crc != entry.crc:
            problems.append(f"{path.name}: crc32 is {crc:08x}, part.json says {entry.crc:08x}")
    return problems


def _new_folder(files: Files, parts: Path) -> tuple[Path, Lock]:
    while True:
        path = parts / late.uuid.uuid4().hex
        files.make_dir(path)
        with suppress(FileNotFoundError):  # garbage collection removed it before it was locked
            lock = files.lock(path)
            if lock is not None:
                if path.is_dir():
                    return path, lock
                lock.release()


def _write_array(files: Files, path: Path, array: Array | Stream) -> FileEntry:
    dtype, shape = array.dtype.newbyteorder("<"), tuple(int(side) for side in array.shape)
    head = _npy_header(dtype, shape)
    crc, written = zlib.crc32(head), 0

    def pieces() -> Iterator[bytes | memoryview]:
        nonlocal crc, written
        yield head
        for block in array.blocks if isinstance(array, Stream) else (array,):
            raw = np.ascontiguousarray(block, dtype=dtype).reshape(-1).view(np.uint8).data
            for start in range(0, len(raw), _BLOCK):
                piece = raw[start : start + _BLOCK]
                crc = zlib.crc32(piece, crc)
                written += len(piece)
                yield piece

    write_file(files, path, pieces())
    expected = math.prod(shape) * dtype.itemsize
    if written != expected:
        raise AssertionError(f"{path.name}: {written} bytes given for an array of {expected}")
    return FileEntry(dtype, shape, len(head), written, crc)


def npy_offset(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Where the numbers of such an array start in its file."""
    return len(_npy_header(dtype, shape))


def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    return header.getvalue()


def _entry_to_json(entry: FileEntry) -> dict[str, Any]:
    return {
        "dtype": entry.dtype.str,
        "shape": list(entry.shape),
        "offset": entry.offset,
        "bytes": entry.bytes,
        "crc32": entry.crc,
    }


def _read_head(
    files: Files, path: Path, ref: PartRef, kind: PartKind, store_uuid: str
) -> tuple[dict[str, Any], dict[str, FileEntry]]:
    where = path / "part.json"
    try:
        text = files.read(where, _JSON_LIMIT)
        if zlib.crc32(text) != ref.crc:
            raise CorruptStore(where, "its crc32 is not the one that the catalogue names")
        head = json.loads(text)
        if head["format"] > FORMAT:
            raise FormatTooNew(f"{where}: format {head['format']}, this mrlstore reads up to {FORMAT}")
        if (head["kind"], head["store"], head["part"]) != (kind, store_uuid, path.name):
            raise CorruptStore(where, f"a {head['kind']} part of another store or folder")
        if not isinstance(head["info"], dict) or not _is_count(head["rows"]):
            raise ValueError("rows or info have the wrong type")
        return head, {str(name): _parse_entry(str(name), raw) for name, raw in head["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptStore(where, f"not a part description ({error!r})") from error


def _parse_entry(name: str, raw: Any) -> FileEntry:
    if not _NAME.fullmatch(name) or raw["dtype"] not in _DTYPES:
        raise ValueError(f"file {name!r} of dtype {raw['dtype']!r}")
    shape = raw["shape"]
    numbers = [raw["offset"], raw["bytes"], raw["crc32"], *shape]
    if len(shape) not in (1, 2) or not all(_is_count(number) for number in numbers):
        raise ValueError(f"file {name!r}: impossible numbers")
    dtype = np.dtype(raw["dtype"])
    if math.prod(shape) * dtype.itemsize != raw["bytes"] or raw["offset"] % 64:
        raise ValueError(f"file {name!r}: shape, bytes and offset do not fit together")
    return FileEntry(dtype, tuple(shape), raw["offset"], raw["bytes"], raw["crc32"])


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _map_array(files: Files, path: Path, entry: FileEntry) -> tuple[Array, mmap.mmap | None]:
    if entry.bytes == 0:
        return np.zeros(entry.shape, dtype=entry.dtype), None
    try:
        mapped = files.map(path, entry.offset + entry.bytes)
    except ValueError as error:
        raise CorruptStore(path, f"truncated: {error}") from error
    count = math.prod(entry.shape)
    flat = np.frombuffer(mapped, dtype=entry.dtype, count=count, offset=entry.offset)
    return flat.reshape(entry.shape), mapped


if sys.byteorder != "little":
    raise ImportError("mrlstore maps little-endian arrays; big-endian machines are not supported")
