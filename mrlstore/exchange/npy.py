"""One array as a .npy file: memory-mapped for reading, written row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.types import LIMITS

_HEADER_BYTES: Final = 128  # of the files written here, so that it can be filled in afterwards
_LONGEST_HEADER: Final = 10_000  # bytes; numpy parses no longer ones
_MAGIC: Final = b"\x93NUMPY"
_LONGEST_TEXT: Final = 4 * LIMITS.id_bytes  # bytes of a text in an array; numpy takes 4 for a character


def open_vectors(path: Path) -> NDArray[Any]:
    """Map a .npy file of vectors: any float or integer type, [n, dim]. Raises InvalidInput."""
    vectors = open_array(path)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InvalidInput(f"{path}: expected one vector of numbers in each row, that is [rows, dimensions]")
    if vectors.shape[1] > LIMITS.max_dim:
        raise InvalidInput(f"{path}: vectors of {vectors.shape[1]:,} dimensions; at most {LIMITS.max_dim}")
    return vectors


def open_array(path: Path) -> NDArray[Any]:
    """Map a .npy file of numbers or texts of any shape. Raises InvalidInput, and OSError without a file."""
    _check_header(path)
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # never unpickles
    except OSError:
        raise
    except Exception as error:  # numpy's parser of headers raises whatever it happens to meet
        raise InvalidInput(f"{path}: no .npy file of numbers, or it is damaged") from error
    if array.dtype.kind not in "fiuUS" or array.dtype.itemsize > _LONGEST_TEXT:
        raise InvalidInput(f"{path}: holds neither numbers nor ids")
    if array.nbytes > path.stat().st_size:
        raise InvalidInput(f"{path}: an array of {array.nbytes:,} bytes in a file of fewer")
    return array


def _check_header(path: Path) -> None:
    """Refuse a header whose stated length is beyond reason: numpy reads all of it into memory first."""
    with path.open("rb") as file:
        start = file.read(12)
    if start[:6] != _MAGIC or len(start) < 10:
        raise InvalidInput(f"{path} is not a .npy file")
    length = int.from_bytes(start[8:10] if start[6] == 1 else start[8:12], "little")
    if length > _LONGEST_HEADER:
        raise InvalidInput(f"{path}: a header of {length:,} bytes; at most {_LONGEST_HEADER:,}")


class ArrayWriter:
    """Writes float16 or float32 rows behind a header that is filled in once their number is known."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any], dim: int) -> None:
        self.file, self.dtype, self.dim, self.rows = file, dtype.newbyteorder("<"), dim, 0
        self.file.write(self._header())

    def write(self, vectors: NDArray[Any]) -> None:
        """Append rows [n, dim]."""
        self.file.write(np.ascontiguousarray(vectors, dtype=self.dtype).tobytes())
        self.rows += len(vectors)

    def finish(self) -> None:
        """Fill in the header."""
        self.file.seek(0)
        self.file.write(self._header())

    def _header(self) -> bytes:
        shape = (self.rows, self.dim)
        text = f"{{'descr': {self.dtype.str!r}, 'fortran_order': False, 'shape': {shape}, }}"
        length = _HEADER_BYTES - 10  # magic, version and length take 10 bytes
        return _MAGIC + b"\x01\x00" + length.to_bytes(2, "little") + text.encode().ljust(length - 1) + b"\n"
