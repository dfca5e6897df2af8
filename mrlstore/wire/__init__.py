"""How the plain data of the public API stands in JSON, between a server and its clients.

Dataclasses are objects of their fields, not-a-number is null, and an array of numbers is a list or, shorter
and faster, `{"base64": ..., "shape": [...]}`: float32, little-endian, row by row.
"""

from mrlstore.wire.arrays import array_from, array_json
from mrlstore.wire.plain_values import from_plain, to_plain
from mrlstore.wire.result_values import (
    batch_from,
    duplicates_json,
    hit_json,
    record_json,
    result_from,
    result_json,
)

__all__ = [
    "array_from",
    "array_json",
    "batch_from",
    "duplicates_json",
    "from_plain",
    "hit_json",
    "record_json",
    "result_from",
    "result_json",
    "to_plain",
]
