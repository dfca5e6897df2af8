"""What an error of the API looks like."""

from __future__ import annotations

from typing import Any

from mrlstore.server.bodies import dump
from mrlstore.server.refusals import HttpRefusal


def error_object(refusal: HttpRefusal) -> dict[str, Any]:
    """`type` is the class of the library's error, "" where the server itself refuses."""
    error = {"code": refusal.code, "type": refusal.error_type, "message": refusal.message}
    return {"error": error, "status": refusal.status}


def error_body(refusal: HttpRefusal) -> bytes:
    """An error as the body of an answer."""
    return dump(error_object(refusal))
