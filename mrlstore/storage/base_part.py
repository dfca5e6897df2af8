"""Base parts: the keys, ids and vectors of a segment's rows, written and checked.

Rows lie in the order of their namespaces, so that each namespace is one run of rows. The arrays:

    keys        int64 [n]            row keys
    key_order   int64 [n]            numbers of the rows, in the order of their keys
    vectors     float16 [n, dim]     unit rows
    norms       float32 [n]          lengths of the vectors as they were given
    inv_norms   float32 [n]          1 / length of the stored float16 row
    row_crcs    uint32 [n]           crc32 of each row's key, lengths and vector
    ids.offsets, ids.bytes                  the ids, see `texts`
    namespaces.offsets, namespaces.bytes    the namespaces' names [g]
    groups      int64 [g + 1]        where each namespace's rows begin, and the end
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import CorruptStore
from mrlstore.storage.parts import NewPart, Part, Stream, write_part
from mrlstore.storage.texts import pack
from mrlstore.storage.vector_rows import inverse_lengths, row_checksums
from mrlstore.system.files import Files


class _Shape(NamedTuple):
    dtype: str
    more: int = 0  # entries beyond one for each row


_BY_ROW: Final = {
    "keys": _Shape("<i8"),
    "key_order": _Shape("<i8"),
    "ids.offsets": _Shape("<i8", 1),
    "norms": _Shape("<f4"),
    "inv_norms": _Shape("<f4"),
    "row_crcs": _Shape("<u4"),
}
_OF_ANY_LENGTH: Final = {
    "groups": "<i8",
    "namespaces.offsets": "<i8",
    "ids.bytes": "|u1",
    "namespaces.bytes": "|u1",
}


def base_arrays(
    keys: NDArray[np.int64], vectors: NDArray[np.float16], norms: NDArray[np.float32]
) -> dict[str, NDArray[Any]]:
    """The arrays of a base part with one entry for each row, for vectors [n, dim] that are in memory."""
    inv_norms = inverse_lengths(vectors)
    crcs = row_checksums(keys, norms, inv_norms, vectors)
    return {"keys": keys, "vectors": vectors, "norms": norms, "inv_norms": inv_norms, "row_crcs": crcs}


def write_base(
    files: Files,
    parts: Path,
    store_uuid: str,
    namespaces: Sequence[str],
    ids: Sequence[str],
    by_row: Mapping[str, NDArray[Any] | Stream],
) -> NewPart:
    """Write rows as a base part; they are already in the order of their namespaces' UTF-8 bytes.

    `by_row` holds what `base_arrays` gives, or the same arrays gathered from other base parts.
    """
    names, starts = _groups(namespaces)
    name_bytes, name_offsets = pack(names)
    id_bytes, id_offsets = pack(ids)
    arrays: dict[str, NDArray[Any] | Stream] = {
        **by_row,
        "key_order": np.argsort(cast("NDArray[np.int64]", by_row["keys"]), kind="stable").astype(np.int64),
        "ids.offsets": id_offsets,
        "ids.bytes": id_bytes,
        "groups": np.array([*starts, len(ids)], dtype=np.int64),
        "namespaces.offsets": name_offsets,
        "namespaces.bytes": name_bytes,
    }
    return write_part(files, parts, "base", len(ids), arrays, store_uuid=store_uuid)


def check_base(base: Part, rows: int) -> None:
    """Raise CorruptStore if the arrays do not fit together. Their numbers are checked by verify() alone."""
    try:
        fits = _fits(base, rows)
    except KeyError as error:
        raise CorruptStore(base.path, f"the array {error} is missing") from error
    if not fits:
        raise CorruptStore(base.path, "the shapes of its arrays do not fit together")


def _fits(base: Part, rows: int) -> bool:
    arrays = base.arrays
    by_row = all(
        arrays[name].dtype.str == shape.dtype and arrays[name].shape == (rows + shape.more,)
        for name, shape in _BY_ROW.items()
    )
    others = all(
        arrays[name].dtype.str == dtype and arrays[name].ndim == 1 for name, dtype in _OF_ANY_LENGTH.items()
    )
    vectors = arrays["vectors"]
    return (
        base.rows == rows
        and by_row
        and others
        and (vectors.dtype.str, vectors.ndim, len(vectors)) == ("<f2", 2, rows)
        and len(arrays["groups"]) == len(arrays["namespaces.offsets"]) >= 1
    )


def _groups(namespaces: Sequence[str]) -> tuple[list[str], list[int]]:
    """The different namespaces, and the first row of each."""
    names: list[str] = []
    starts = []
    for row, name in enumerate(namespaces):
        if not names or name != names[-1]:
            names.append(name)
            starts.append(row)
    return names, starts
