"""The errors of a server as those of the library."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from mrlstore import errors
from mrlstore.errors import AccessDenied, CorruptStore, MrlStoreError, ServerError


def error_of(status: int, answer: Any, where: str) -> MrlStoreError:
    """The error that an answer tells of.

    Args:
        status: the status of HTTP.
        answer: the body, parsed; None where it is not JSON.
        where: the URL of the index, for messages.
    """
    told = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(told, dict) or not isinstance(told.get("message"), str):
        return ServerError(f"{where}: the server answered {status} ({_phrase(status)})", status)
    message, code = told["message"], told.get("code")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return AccessDenied(message, status)
    kind = getattr(errors, str(told.get("type")), None) if told.get("type") else None
    if isinstance(kind, type) and issubclass(kind, CorruptStore):
        return kind(where, message)
    if isinstance(kind, type) and issubclass(kind, ServerError):
        return kind(message, status)
    if isinstance(kind, type) and issubclass(kind, MrlStoreError):
        return kind(message)
    if code == "NOT_FOUND":
        return errors.StoreNotFound(message)
    if code == "ALREADY_EXISTS":
        return errors.StoreExists(message)
    if status == HTTPStatus.BAD_REQUEST:
        return errors.InvalidInput(message)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return errors.LimitExceeded(message)
    return ServerError(message, status)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no status of HTTP"
