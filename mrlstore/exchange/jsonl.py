"""JSONL: one row a line, as a JSON object; the vectors inside, or in a .npy file beside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from numpy.typing import NDArray

from mrlstore.errors import InvalidInput
from mrlstore.exchange.export_block import ExportBlock
from mrlstore.exchange.input_row import (
    ROW_ERRORS,
    FieldNames,
    InputRow,
    Refusal,
    make_row,
    make_vector,
    refusal,
)
from mrlstore.exchange.npy import ArrayWriter
from mrlstore.types import LIMITS

# A document that is written in \u escapes throughout takes six bytes for one; the rest is for everything
# else.
LINE_BYTES: Final = 6 * LIMITS.document_bytes + 16 * 1024 * 1024

# Every value outside of texts takes about 30 times its characters once it is parsed. A vector of 8,192
# numbers has 200 KB, metadata 64 KiB; what has more than this cannot be a row.
_STRUCTURE_BYTES: Final = 2 * 1024 * 1024
_QUOTES: Final = 200_000

# DEL and the C1 controls: JSON may hold them as they are, but terminals take some of them for commands.
_ESCAPED: Final = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


def read_jsonl(
    file: BinaryIO, name: str, vectors: NDArray[Any] | None, fields: FieldNames
) -> Iterator[InputRow | Refusal]:
    """Read JSONL in constant memory; empty lines are skipped.

    Args:
        file: UTF-8; a line longer than LINE_BYTES is refused without being held in memory.
        name: the file's name, for messages.
        vectors: [n, dim], if the vectors do not stand in the lines: line i has row i. A line that says
            `"vector": null` is a row without a vector.
        fields: what the keys are called.

    Raises:
        InvalidInput: the file has fewer or more rows than `vectors`.
    """
    seen = 0
    for line in _lines(file):
        place = f"{name}:{line.number}"
        if line.text is not None and not line.text.strip():
            continue
        if vectors is not None and seen >= len(vectors):
            raise InvalidInput(f"{place}: the vectors ended after {len(vectors):,} rows")
        beside = None if vectors is None else vectors[seen]
        seen += 1
        try:
            if line.text is None:
                raise ValueError(f"a line of more than {LINE_BYTES:,} bytes")
            yield _parse(line.text, place, beside, fields)
        except ROW_ERRORS as error:
            yield refusal(place, error)
    if vectors is not None and seen < len(vectors):
        raise InvalidInput(f"{name}: {seen:,} rows for {len(vectors):,} vectors")


@dataclass(frozen=True, slots=True)
class _Line:
    number: int  # the first line is 1
    text: bytes | None  # None if it is longer than LINE_BYTES


def _lines(file: BinaryIO) -> Iterator[_Line]:
    number = 0
    while line := file.readline(LINE_BYTES):
        number += 1
        whole: bytes | None = line
        while len(line) == LINE_BYTES and not line.endswith(b"\n"):
            whole, line = None, file.readline(LINE_BYTES)
        yield _Line(number, whole)


def _parse(line: bytes, place: str, beside: NDArray[Any] | None, fields: FieldNames) -> InputRow:
    _check_structure(line)
    try:
        values = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(values, dict):
        raise TypeError("not a JSON object")
    key = fields.name("vector")
    inside = None if key in fields.omit else values.get(key)
    if beside is None:
        vector = make_vector(inside)
    elif inside is not None:
        raise ValueError("a vector in the line, and another in the file of vectors")
    else:
        vector = None if key in values else beside
    return make_row(values, place, vector, fields)


def _check_structure(line: bytes) -> None:
    """Refuse a line that takes many times its length in memory once it is parsed, such as "[[],[], ..."."""
    if len(line) <= _STRUCTURE_BYTES:
        return
    bare = line.replace(b"\\\\", b"").replace(b'\\"', b"")  # from here on every quote begins or ends a text
    quotes = bare.count(b'"')
    outside = 0 if quotes > _QUOTES else sum(map(len, bare.split(b'"')[::2]))
    if quotes > _QUOTES or outside > _STRUCTURE_BYTES:
        raise ValueError(
            f"a line with more than {_QUOTES // 2:,} texts, or {_STRUCTURE_BYTES:,} bytes beside"
        )


class JsonlWriter:
    """Writes blocks of rows as lines, with the vectors inside, or in an array beside."""

    def __init__(self, file: BinaryIO, array: ArrayWriter | None) -> None:
        self.file, self.array = file, array

    def write(self, block: ExportBlock) -> None:
        """Write the rows of a block."""
        for row in range(len(block)):
            self.file.write(self._line(block, row))
        if self.array is not None:
            self.array.write(block.vectors)

    def finish(self) -> None:
        """Do nothing: every line has been written."""

    def _line(self, block: ExportBlock, row: int) -> bytes:
        head: dict[str, Any] = {"id": block.ids[row]}
        if block.namespaces is not None:
            head["namespace"] = block.namespaces[row]
        rest: dict[str, Any] = {}
        if block.metadatas[row] is not None:
            rest["metadata"] = block.metadatas[row]
        if block.documents[row] is not None:
            rest["document"] = block.documents[row]
        parts = [_members(head)]
        if self.array is None and block.has_vector[row]:
            numbers = ",".join(map(_digits, block.vectors[row].tolist()))
            parts.append(f'"vector":[{numbers}]')
        elif self.array is not None and not block.has_vector[row]:
            parts.append('"vector":null')
        elif block.norms is not None:
            parts.append(f'"norm":{block.norms[row]:.9g}')
        if rest:
            parts.append(_members(rest))
        return ("{" + ",".join(parts) + "}\n").encode()


def _members(values: Mapping[str, Any]) -> str:
    """A JSON object without its braces."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))[1:-1]
    return text if text.isascii() and "\x7f" not in text else text.translate(_ESCAPED)


def _digits(value: float) -> str:
    """A float32 in nine digits; zero as "-0.0" or "0.0", for JSON reads "-0" as an integer without a sign."""
    return f"{value:.9g}" if value else repr(value)
