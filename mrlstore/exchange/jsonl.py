"""JSONL: one row a line, as a JSON object; the vectors inside, or in a .npy file beside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.exchange.input_row import ExportBlock, FieldNames, InputRow, Refusal, make_row, refusal
from mrlstore.exchange.npy import ArrayWriter
from mrlstore.types import LIMITS

LINE_BYTES: Final = 6 * LIMITS.document_bytes + 16 * 1024 * 1024  # a document all in \u escapes, and the rest


def read_jsonl(
    file: BinaryIO, name: str, vectors: NDArray[Any] | None, fields: FieldNames
) -> Iterator[InputRow | Refusal]:
    """Read JSONL in constant memory; empty lines are skipped.

    Args:
        file: of UTF-8; a line longer than LINE_BYTES is refused without being held.
        name: the file's name, for messages.
        vectors: [n, dim], where the vectors do not stand in the lines: line i has row i, unless the line
            says `"vector": null`, which is a row without.
        fields: what the keys are called.

    Raises:
        InvalidInput: the file has fewer or more rows than `vectors`.
    """
    seen = 0
    for number, line in _lines(file):
        place = f"{name}:{number}"
        if line is not None and not line.strip():
            continue
        if vectors is not None and seen >= len(vectors):
            raise InvalidInput(f"{place}: the vectors ended after {len(vectors):,} rows")
        beside = None if vectors is None else vectors[seen]
        seen += 1
        try:
            if line is None:
                raise ValueError(f"a line of more than {LINE_BYTES:,} bytes")
            yield _parse(line, place, beside, fields)
        except (ValueError, TypeError, RecursionError) as error:
            yield refusal(place, error)
    if vectors is not None and seen < len(vectors):
        raise InvalidInput(f"{name}: {seen:,} rows for {len(vectors):,} vectors")


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """(number, line) of every line; None for one that is too long."""
    number = 0
    while line := file.readline(LINE_BYTES):
        number += 1
        whole: bytes | None = line
        while len(line) == LINE_BYTES and not line.endswith(b"\n"):
            whole, line = None, file.readline(LINE_BYTES)
        yield number, whole


def _parse(line: bytes, place: str, beside: NDArray[Any] | None, fields: FieldNames) -> InputRow:
    try:
        values = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(values, dict):
        raise TypeError("not a JSON object")
    key = fields.name("vector")
    inside = values.get(key)
    if beside is None:
        vector = None if inside is None else _vector(inside)
    elif inside is not None:
        raise ValueError("a vector in the line, and another in the file of vectors")
    else:
        vector = None if key in values else beside
    return make_row(values, place, vector, fields)


_NUMBERS: Final = {int, float}


def _vector(inside: object) -> NDArray[np.float32]:
    """A vector from a line, float32 [dim]; numpy would take texts and booleans for numbers."""
    if not isinstance(inside, list) or not _NUMBERS.issuperset(map(type, inside)):
        raise ValueError("the vector is no flat list of numbers")
    try:
        with np.errstate(over="ignore"):  # infinity is refused with the row, in words
            return np.array(inside, dtype=np.float32)
    except OverflowError:  # a whole number of more than 308 digits
        raise ValueError("the vector holds a number that is beyond float32") from None


class JsonlWriter:
    """Writes blocks of rows as lines, their vectors inside, or into an array beside."""

    def __init__(self, file: BinaryIO, array: ArrayWriter | None) -> None:
        self.file, self.array = file, array

    def write(self, block: ExportBlock) -> None:
        """Write the rows of a block."""
        for row in range(len(block)):
            self.file.write(self._line(block, row))
        if self.array is not None:
            self.array.write(block.vectors)

    def finish(self) -> None:
        """Nothing is kept back."""

    def _line(self, block: ExportBlock, row: int) -> bytes:
        head: dict[str, Any] = {"id": block.ids[row]}
        if block.namespaces is not None:
            head["namespace"] = block.namespaces[row]
        rest: dict[str, Any] = {}
        if block.metadatas[row] is not None:
            rest["metadata"] = block.metadatas[row]
        if block.documents[row] is not None:
            rest["document"] = block.documents[row]
        parts = [_inside(head)]
        if self.array is None and block.there[row]:
            numbers = ",".join(map(_digits, block.vectors[row].tolist()))
            parts.append(f'"vector":[{numbers}]')
        elif self.array is not None and not block.there[row]:
            parts.append('"vector":null')
        elif block.norms is not None:
            parts.append(f'"norm":{block.norms[row]:.9g}')
        if rest:
            parts.append(_inside(rest))
        return ("{" + ",".join(parts) + "}\n").encode()


def _inside(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))[1:-1]


def _digits(value: float) -> str:
    """A float32 in nine digits; JSON would read a bare -0 as the integer, and lose its sign."""
    return f"{value:.9g}" if value else repr(value)
