"""One array of vectors as a .npy file: mapped to be read, written row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput

_HEADER_BYTES: Final = 128


def open_vectors(path: Path) -> NDArray[Any]:
    """Map a .npy file of vectors: any float or integer type, [n, dim]. Raises InvalidInput."""
    try:
        vectors: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")  # it never unpickles
    except OSError:
        raise
    except Exception as error:  # its parser of headers raises what it happens to meet
        raise InvalidInput(f"{path} is no .npy file of numbers: {error}") from error
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InvalidInput(f"{path} must hold one array of numbers of shape [rows, dim]")
    return vectors


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
        room = _HEADER_BYTES - 10
        return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.encode().ljust(room - 1) + b"\n"
