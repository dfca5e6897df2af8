"""The shape of answers and of errors."""

from __future__ import annotations

from typing import Any

from mrlstore.server.bodies import dump
from mrlstore.server.http_call import HttpCall
from mrlstore.server.indexes import ServedIndex
from mrlstore.server.operations import Answer
from mrlstore.server.refusals import HttpRefusal


def answered_with(call: HttpCall, result: object) -> Answer:
    """The answer with a result."""
    return Answer(dump({"result": result, "status": "ok", "time": round(call.seconds, 6)}))


def completed(index: ServedIndex) -> dict[str, Any]:
    """The result of a write, which is on disk: its number is the generation that every reader sees by now."""
    return {"operation_id": index.store.generation, "status": "completed"}


def written(index: ServedIndex, call: HttpCall) -> Answer:
    """The answer to a write."""
    return answered_with(call, completed(index))


def error_body(refusal: HttpRefusal) -> bytes:
    """An error, whose text the clients show whole."""
    return dump({"status": {"error": refusal.message}, "time": 0.0})
