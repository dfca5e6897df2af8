"""Which fields of a payload an answer has, and payloads without some of their fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mrlstore.server.bodies import shown
from mrlstore.server.refusals import invalid

Payload = dict[str, Any]


@dataclass(frozen=True)
class PayloadSelector:
    """`with_payload` of a request: all of a payload, these fields of it, all but these, or nothing."""

    wanted: bool = True
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()

    def of(self, payload: Payload | None) -> Payload:
        """The part of a payload that an answer has."""
        known = payload or {}
        if self.include is not None:
            return _kept(known, self.include)
        return without(known, self.exclude) if self.exclude else known


def payload_selector(given: object, default: bool) -> PayloadSelector:
    """What `with_payload` says."""
    if given is None:
        return PayloadSelector(default)
    if isinstance(given, bool):
        return PayloadSelector(given)
    if isinstance(given, list):
        return PayloadSelector(include=field_names(given, "with_payload"))
    if isinstance(given, dict) and len(given) == 1:
        if "include" in given:
            return PayloadSelector(include=field_names(given["include"], "with_payload.include"))
        if "exclude" in given:
            return PayloadSelector(exclude=field_names(given["exclude"], "with_payload.exclude"))
    raise invalid(f"with_payload: expected true, false, names, include or exclude, got {shown(given)}")


def field_names(given: object, place: str) -> tuple[str, ...]:
    """Names of fields; a dotted one reaches into objects."""
    if not isinstance(given, list) or not all(isinstance(each, str) and each for each in given):
        raise invalid(f"{place}: expected a list of names, got {shown(given)}")
    return tuple(given)


def without(payload: Payload, paths: Sequence[str]) -> Payload:
    """A copy without the fields at some paths."""
    left = payload
    for path in paths:
        left = _removed(left, path)
    return left


def _removed(payload: Payload, path: str) -> Payload:
    if path in payload:
        return {key: value for key, value in payload.items() if key != path}
    head, _, rest = path.partition(".")
    inner = payload.get(head)
    if not rest or not isinstance(inner, dict):
        return payload
    return {**payload, head: _removed(inner, rest)}


def _kept(payload: Payload, paths: Sequence[str]) -> Payload:
    """A copy with the fields at some paths alone."""
    kept: Payload = {}
    inner: dict[str, list[str]] = {}
    for path in paths:
        head, _, rest = path.partition(".")
        if path in payload:
            kept[path] = payload[path]
        elif rest and isinstance(payload.get(head), dict):
            inner.setdefault(head, []).append(rest)
    for head, rests in inner.items():
        found = _kept(payload[head], rests)
        if found and head not in kept:
            kept[head] = found
    return kept
