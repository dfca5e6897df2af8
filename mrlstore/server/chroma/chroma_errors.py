"""The shape of errors: the clients raise the class that is named."""

from __future__ import annotations

from typing import Final

from mrlstore.server.bodies import dump
from mrlstore.server.refusals import HttpRefusal

_CLASSES: Final = {
    400: "InvalidArgumentError",
    401: "AuthError",
    403: "AuthorizationError",
    404: "NotFoundError",
    409: "UniqueConstraintError",
    413: "InvalidArgumentError",
    429: "RateLimitError",
}


def error_body(refusal: HttpRefusal) -> bytes:
    """An error as the body of an answer."""
    return dump({"error": _CLASSES.get(refusal.status, "InternalError"), "message": refusal.message})
