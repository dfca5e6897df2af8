"""From a request to the arguments of a method: names, vectors, and the namespaces that the key opens."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mrlstore.server.api_keys import Role
from mrlstore.server.bodies import float_row, parse_object, shown
from mrlstore.server.http_call import HttpCall, one_of
from mrlstore.server.refusals import HttpRefusal, invalid
from mrlstore.server.v1.declared import Arguments, Declared, Options
from mrlstore.wire import array_from

_FORMATS: Final = ("json", "base64")
_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}")


def arguments_of(call: HttpCall, declared: Declared, body: bytes) -> Arguments:
    """The arguments of an operation, with vectors as float32; what values mean the store itself checks.

    Raises HttpRefusal (400) for names that the operation does not have and for what is not a vector, and 403
    for namespaces that the key does not open.
    """
    given = parse_object(body)
    if declared.role > Role.READ and _LONG_NUMBER.search(body):
        given = json.loads(body)  # orjson makes floats of whole numbers that 64 bits do not hold
    for name in given:
        if name not in declared.arguments:
            known = ", ".join(declared.arguments) or "none"
            raise invalid(f"{name:.60}: {declared.name} has no such argument; it has {known}")
    _check_namespaces(call, declared, given)
    for name in declared.required:
        if name not in given:
            raise invalid(f"{name}: missing")
    if "vector" in given and given["vector"] is not None:
        given["vector"] = _vector(given["vector"], "vector")
    for name in ("vectors", "queries"):
        if given.get(name) is not None:
            given[name] = _rows(given[name], name)
    for name in ("positive", "negative"):
        if isinstance(given.get(name), list):
            given[name] = [
                one if isinstance(one, str) else _vector(one, f"{name}[{at}]")
                for at, one in enumerate(given[name])
            ]
    if isinstance(given.get("include"), list):
        given["include"] = tuple(given["include"])  # the store remembers what it has checked of tuples
    return given


def options_of(call: HttpCall) -> Options:
    """How the answer is to be written, by the parameters of the URL."""
    asked = call.query()
    vectors, plan = one_of(asked, "vectors") or "json", one_of(asked, "plan") or "true"
    if vectors not in _FORMATS:
        raise invalid(f"vectors: expected one of {', '.join(_FORMATS)}, got {shown(vectors)}")
    if plan not in ("true", "false"):
        raise invalid(f"plan: expected true or false, got {shown(plan)}")
    return Options(vectors == "base64", plan == "true", grant=call.grant)


def require_all_namespaces(call: HttpCall) -> None:
    """Refuse a key that opens only some namespaces."""
    if call.grant.namespaces is not None:
        raise HttpRefusal(
            403, "PERMISSION_DENIED", "this takes a key that opens all namespaces; name one that yours opens"
        )


def _check_namespaces(call: HttpCall, declared: Declared, given: Arguments) -> None:
    if declared.whole_store:
        require_all_namespaces(call)
    if "namespace" not in declared.arguments:
        return
    spaces = given.get("namespace", "")
    if spaces is None:
        require_all_namespaces(call)
    for space in spaces if isinstance(spaces, list) else [spaces]:
        if isinstance(space, str):
            call.require_namespace(space)


def _vector(value: object, place: str) -> NDArray[np.float32]:
    return float_row(value, place) if isinstance(value, list) else array_from(value, place, 1)


def _rows(value: object, place: str) -> Any:
    """Rows of vectors [n, dim], or a list in which some are None."""
    if not isinstance(value, list):
        return array_from(value, place, 2)
    rows = [None if row is None else _vector(row, f"{place}[{at}]") for at, row in enumerate(value)]
    if not rows or any(row is None for row in rows):
        return rows
    if len({len(row) for row in rows if row is not None}) > 1:
        raise invalid(f"{place}: rows of different lengths")
    return np.stack([row for row in rows if row is not None])
