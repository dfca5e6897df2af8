"""Scopes: their resources are given back whatever interrupts them, also while the exception is kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

import mrlstore.system.scope
from mrlstore.system.scope import scope
from tests.pressure.opcodes import AtOpcode, interrupt

HOMES = (mrlstore.system.scope.__file__, __file__)
held: list[str] = []
ended: list[str] = []


@scope
def resource(name: str) -> Iterator[str]:
    held.append(name)
    try:
        yield name.upper()
        ended.append(name)
    finally:
        held.remove(name)


@scope
def two(name: str) -> Iterator[str]:
    with resource(f"{name}1") as first, resource(f"{name}2") as second:
        yield first + second


@pytest.fixture(autouse=True)
def fresh() -> None:
    held.clear()
    ended.clear()


def test_it_gives_the_value_and_goes_on_at_the_end() -> None:
    with two("a") as value:
        assert value == "A1A2" and held == ["a1", "a2"]
    assert held == [] and ended == ["a2", "a1"]


def test_an_exception_of_the_body_is_raised_at_the_yield() -> None:
    error = ValueError("x")
    with pytest.raises(ValueError) as caught, resource("a"):
        raise error
    assert caught.value is error and held == [] and ended == []


def test_the_generator_may_replace_or_deal_with_it() -> None:
    @scope
    def replacing() -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise KeyError("y") from error

    @scope
    def silencing() -> Iterator[None]:
        with suppress(ValueError):
            yield

    with pytest.raises(KeyError) as caught, replacing():
        raise ValueError("x")
    assert isinstance(caught.value.__cause__, ValueError)
    for _ in range(2):
        with silencing():
            int("x")
    with pytest.raises(StopIteration), resource("a"):
        next(iter(()))
    assert held == []


def test_a_return_and_a_break_end_it() -> None:
    def leaving() -> str:
        with resource("a") as value:
            return value

    assert leaving() == "A"
    for _ in range(2):
        with resource("b"):
            break
    assert held == [] and ended == ["a", "b"]


def use() -> None:
    with two("a"):
        len(held)


@pytest.mark.parametrize("kept", [False, True])
def test_nothing_stays_held_after_an_exception_at_any_bytecode(kept: bool) -> None:
    with AtOpcode(0, interrupt, HOMES) as counted:
        use()
    exceptions = []
    for nth in range(1, counted.seen + 1):
        try:
            with AtOpcode(nth, interrupt, HOMES) as trap:
                use()
        except KeyboardInterrupt as error:
            if kept:
                exceptions.append(error)
        assert sys.gettrace() is None
        if "resource" not in trap.place:  # its own `finally` may be cut off at its first bytecode
            assert held == [], trap.place
        held.clear()
    assert not kept or len(exceptions) > 50
