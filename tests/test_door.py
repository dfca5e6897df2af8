"""Tests reach the library's private parts through one door, `tests.inside`: moving them changes one file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LIBRARY = TESTS.parent / "mrlstore"
# The door itself, and the switches, which take rules out of the running library.
DOORS = {"inside.py", "harness/off.py", "test_fast_path.py"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names() -> set[str]:
    """The private attributes, functions and classes that the library defines."""
    names: set[str] = set()
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    of_named_tuples = {"_replace", "_asdict", "_fields"}
    return {name for name in names if is_private(name)} - of_named_tuples


PRIVATE = private_names()


def reached(path: Path) -> list[str]:
    """Where a file of tests uses what is private in the library, its own objects apart."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in PRIVATE:
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            inherited = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super"
            if not own and not inherited:
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("setattr", "getattr", "delattr")
        ):
            names = [ast.literal_eval(each) for each in node.args[1:2] if isinstance(each, ast.Constant)]
            found.extend(f"line {node.lineno}: {name}" for name in names if name in PRIVATE)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mrlstore"):
            names = [alias.name for alias in node.names if is_private(alias.name)]
            found.extend(f"line {node.lineno}: imports {name}" for name in names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts = node.value.split(".")[1:]
            named = node.value.startswith("mrlstore.") and " " not in node.value
            if named and any(is_private(part) for part in parts):
                found.append(f"line {node.lineno}: {node.value}")
    return found


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_private_parts_are_reached_through_the_door_alone(path: Path) -> None:
    if path.relative_to(TESTS).as_posix() not in DOORS:
        assert not reached(path), "reach it through tests/inside.py"
