"""Arrays of float32 as base64, and back."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput

_FLOAT32 = np.dtype("<f4")


def array_json(array: NDArray[Any]) -> dict[str, Any]:
    """An array of any shape as `{"base64": ..., "shape": [...]}`; its numbers become float32."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which a store refuses
        plain = np.ascontiguousarray(array, dtype=_FLOAT32)
    return {"base64": base64.b64encode(plain.tobytes()).decode("ascii"), "shape": list(array.shape)}


def array_from(value: object, place: str, axes: int) -> NDArray[np.float32]:
    """The array that `array_json` wrote, with so many axes.

    Args:
        value: what JSON gave. Without "shape", all numbers are one row.
        place: where it stands, for messages.
        axes: 1 for a vector, 2 for rows of vectors.

    Raises:
        InvalidInput: it is no such object, or its bytes do not fit its shape.
    """
    if not isinstance(value, dict) or not isinstance(value.get("base64"), str):
        raise InvalidInput(f'{place}: expected numbers, or {{"base64": ..., "shape": [...]}}')
    try:
        raw = base64.b64decode(value["base64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"{place}: not base64 ({error})") from error
    if len(raw) % 4:
        raise InvalidInput(f"{place}: {len(raw)} bytes are not a whole number of float32")
    flat = np.frombuffer(raw, dtype=_FLOAT32).astype(np.float32, copy=False)
    shape = value.get("shape", [flat.size])
    if not isinstance(shape, list) or not all(type(each) is int and each >= 0 for each in shape):
        raise InvalidInput(f"{place}: shape: expected a list of whole numbers, got {shape!r:.60}")
    if len(shape) != axes:
        raise InvalidInput(f"{place}: shape: expected {axes} numbers, got {shape!r:.60}")
    count = 1
    for each in shape:
        count *= each
    if count != flat.size:
        raise InvalidInput(f"{place}: {flat.size} numbers do not fill the shape {shape!r:.60}")
    return flat.reshape(shape)
