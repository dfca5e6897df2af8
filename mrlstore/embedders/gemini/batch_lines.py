"""The lines of the Batch API's files: what is written for a content, and what is read of a result."""

from __future__ import annotations

import base64
import json
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

from mrlstore.embedders.gemini.embed_run import Vector, check_vector
from mrlstore.embedders.gemini.items import EmbedItem
from mrlstore.embedders.gemini.models import Model
from mrlstore.errors import EmbedError


@dataclass(frozen=True)
class BatchResults:
    """What the file of a job's results holds, by cache key."""

    vectors: dict[bytes, Vector] = field(default_factory=dict)  # float32 [model.dim]
    failed: dict[bytes, str] = field(default_factory=dict)


def request_bytes(item: EmbedItem) -> int:
    """The most bytes that an item's line takes, its fixed part left out."""
    return item.size.media_bytes * 4 // 3 + sum(4 * len(part) for part in item.parts if isinstance(part, str))


def request_line(key: bytes, item: EmbedItem, dim: int) -> str:
    """The line for one item; its media are read."""
    parts: list[dict[str, Any]] = []
    for part in item.parts:
        if isinstance(part, str):
            parts.append({"text": part})
        else:
            data = base64.b64encode(part.read()).decode()
            parts.append({"inline_data": {"mime_type": part.mime_type, "data": data}})
    request = {"content": {"parts": parts}, "output_dimensionality": dim}
    optional = {"task_type": item.task_type, "title": item.title}
    request |= {name: value for name, value in optional.items() if value is not None}
    return json.dumps({"key": key.hex(), "request": request}) + "\n"


def read_results(data: bytes, waiting: Set[bytes], model: Model) -> BatchResults:
    """Read the results of contents that are waited for; other lines and unreadable ones are left out."""
    results = BatchResults()
    for line in filter(bytes.strip, data.splitlines()):
        try:
            result = json.loads(line)
            key = bytes.fromhex(result["key"])
        except (ValueError, KeyError, TypeError):
            continue
        if key not in waiting:
            continue
        try:
            results.vectors[key] = check_vector(_values(result), model)
            results.failed.pop(key, None)
        except EmbedError as error:
            results.failed[key] = str(result.get("error") or error)
    return results


def _values(result: dict[str, Any]) -> Any:
    response = result.get("response")
    embedding = response.get("embedding") if isinstance(response, dict) else None
    return embedding.get("values") if isinstance(embedding, dict) else None
