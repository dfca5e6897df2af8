"""`HttpRefusal`: an answer that is not the one that was asked for, and what the library's errors become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mrlstore import errors

INVALID: Final = "INVALID_ARGUMENT"
NOT_FOUND: Final = "NOT_FOUND"
UNAVAILABLE: Final = "UNAVAILABLE"


class HttpRefusal(Exception):
    """A status and a message for the client; each API writes it in the shape that its clients read.

    `code` is one of the names that gRPC gives to kinds of errors; `error_type` is the name of the library's
    error that led to it, or "".
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})
        self.error_type = ""


def invalid(message: str) -> HttpRefusal:
    """The request is wrong, or asks for what is not offered."""
    return HttpRefusal(400, INVALID, message)


def not_found(message: str) -> HttpRefusal:
    """The index or namespace is not there."""
    return HttpRefusal(404, NOT_FOUND, message)


def busy(message: str) -> HttpRefusal:
    """Another try in a second may succeed."""
    return HttpRefusal(503, UNAVAILABLE, message, {"Retry-After": "1"})


def disk_full() -> HttpRefusal:
    """There is no room for what would be written."""
    return HttpRefusal(507, "RESOURCE_EXHAUSTED", "the disk of the server is full; nothing was changed")


def refusal_of(error: errors.MrlStoreError) -> HttpRefusal:
    """What a client is told about an error of the library. Paths of this machine are left out."""
    refusal = _refusal_of(error)
    public = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    refusal.error_type = next(public)
    return refusal


def _refusal_of(error: errors.MrlStoreError) -> HttpRefusal:
    match error:
        case errors.LimitExceeded() | errors.InvalidInput():
            return invalid(str(error))
        case errors.StoreNotFound():
            return not_found("the index is not there")
        case errors.StoreExists():
            return HttpRefusal(409, "ALREADY_EXISTS", "it exists already")
        case errors.StoreLocked():
            return busy("the store is busy: another process holds its lock; try again")
        case errors.ShardUnavailable() | errors.StaleRead() | errors.WriterReplaced():
            return busy("a shard of the cluster does not answer or changes its writer; try again")
        case errors.PartialWrite():
            return busy("only some shards of the cluster have taken the write; repeating it is safe")
        case errors.StorePoisoned() | errors.StoreClosed():
            return busy(
                "the store was closed by a failure, and is opened again; look what was stored, and try again"
            )
        case errors.StorageFull():
            return disk_full()
        case errors.EmbedError() if getattr(error, "of_service", True) is False:  # another text would do
            return invalid(f"the text cannot be embedded: {error}")
        case errors.EmbedError():
            return HttpRefusal(502, UNAVAILABLE, f"the text could not be embedded: {error}")
        case errors.CorruptStore() | errors.FormatTooNew():
            return HttpRefusal(
                500, "DATA_LOSS", f"the store cannot be read: {type(error).__name__}; see the server's log"
            )
        case _:
            return HttpRefusal(500, "INTERNAL", f"the server failed: {type(error).__name__}; see its log")
