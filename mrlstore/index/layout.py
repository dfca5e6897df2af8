"""How the index of a group lies in the arrays of an index part.

The names, types and shapes of the arrays are written in docs/format.md. This module only slices them; the
numbers inside are checked by `verification`, and kernels bound every row number that they read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.index.codes import MAX_PREFIX
from mrlstore.index.group import NO_COPIES, SCALE_AT, SCALE_BYTES, CopySets, GroupIndex

SET_COLUMNS: Final = 3  # of an array of copy sets, see CopySets

_TYPES: Final = {
    "neighbours": np.uint32, "entries": np.uint32, "unprefixed": np.uint32, "copy_sets": np.uint32,
    "copies": np.uint32, "entry_starts": np.int64, "unprefixed_starts": np.int64,
    "copy_set_starts": np.int64, "copy_starts": np.int64, "rotation_scales": np.float32,
}  # fmt: skip

Arrays = dict[str, NDArray[Any]]


def open_index(
    arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any], group: int, start: int, stop: int
) -> GroupIndex:
    """The index of group number `group`, rows [start, stop) of the part, as slices of the part's arrays.

    Reads only where the group's entries and unprefixed rows begin and end. Raises ValueError where shapes or
    the header's numbers do not fit each other.
    """
    for name, type_ in _TYPES.items():
        if name in arrays and arrays[name].dtype != type_:
            raise ValueError(f"{name} of type {arrays[name].dtype}, not {np.dtype(type_)}")
    codes, neighbours, rotation = arrays["codes"], arrays["neighbours"], arrays["rotation"]
    entries, prefix_dim = arrays["entries"], info["prefix_dim"]
    if codes.ndim != 2 or codes.dtype.itemsize != 1 or not 0 <= start <= stop <= len(codes):
        raise ValueError(f"codes of shape {codes.shape} do not hold rows {start} to {stop}")
    if neighbours.ndim != 2 or len(neighbours) not in (0, len(codes)) or neighbours.dtype.itemsize != 4:
        raise ValueError(f"neighbours of shape {neighbours.shape} for {len(codes)} rows")
    if not isinstance(prefix_dim, int) or not 0 < prefix_dim <= MAX_PREFIX:
        raise ValueError(f"prefix_dim {prefix_dim!r}")
    last = codes.shape[1] - SCALE_BYTES  # where the scale lies in parts of version 2 and older
    scale_at = info.get("scale_at", last)
    if scale_at not in (SCALE_AT, last):
        raise ValueError(f"scale_at {scale_at!r} in codes of {codes.shape[1]} bytes")
    e0, e1 = _range(arrays["entry_starts"], group, len(entries))
    u0, u1 = _range(arrays["unprefixed_starts"], group, len(arrays["unprefixed"]))
    if arrays["entry_codes"].shape != (len(entries), codes.shape[1]):
        raise ValueError(f"entry codes of shape {arrays['entry_codes'].shape}")
    copies = _copies(arrays, group)
    return GroupIndex(
        prefix_dim=prefix_dim,
        codes=codes[start:stop],
        rotation=rotation if len(rotation) else None,
        rotation_scales=arrays["rotation_scales"] if len(rotation) else None,
        neighbours=neighbours[start:stop] if len(neighbours) and e1 > e0 else None,
        entries=entries[e0:e1],
        entry_codes=arrays["entry_codes"][e0:e1],
        unprefixed=arrays["unprefixed"][u0:u1],
        scale_at=scale_at,
        copies=copies,
    )


def _copies(arrays: Mapping[str, NDArray[Any]], group: int) -> CopySets:
    """The near copies of a group; parts of version 3 and older know of none."""
    if "copies" not in arrays:
        return NO_COPIES
    sets, rows = arrays["copy_sets"], arrays["copies"]
    if sets.ndim != 2 or sets.shape[1] != SET_COLUMNS:
        raise ValueError(f"copy sets of shape {sets.shape}")
    s0, s1 = _range(arrays["copy_set_starts"], group, len(sets))
    c0, c1 = _range(arrays["copy_starts"], group, len(rows))
    return CopySets(sets[s0:s1], rows[c0:c1])


def _range(starts: NDArray[np.int64], group: int, length: int) -> tuple[int, int]:
    """Where the list of a group begins and ends in a joined array of this length."""
    if starts.ndim != 1 or not 0 <= group < len(starts) - 1:
        raise ValueError(f"no group {group} among {len(starts) - 1}")
    first, last = int(starts[group]), int(starts[group + 1])
    if not 0 <= first <= last <= length:
        raise ValueError(f"group {group} claims entries {first} to {last} of {length}")
    return first, last
