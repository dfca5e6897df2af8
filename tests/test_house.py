"""The sizes of rooms and functions, and one name for one thing, over the whole package."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "mrlstore"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 70  # without docstrings

# Longer functions, each with the reason.
LONG_FUNCTIONS: dict[str, str] = {}

# Base names of modules that occur in several packages, because those packages are built alike.
REPEATED_MODULES = {
    "build": "the arrays of a part from its rows: columns, index; the libraries of kernels",
    "layout": "how a part's arrays lie in its files: columns, index",
    "filters": "an integration's filters as a `where`: Haystack, LlamaIndex",
    "calibrate": "a command, which has the name of what it calls: cli, recall",
}

# Names of classes that occur twice, because users import them from the package that they belong to.
REPEATED_CLASSES = {
    "MrlVectorStore": "the vector store of LangChain, and of LlamaIndex",
}


def trees() -> Iterator[tuple[Path, ast.Module, str]]:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        yield path, ast.parse(text), text


def docstring_lines(node: ast.AST) -> int:
    """Lines of the docstrings of a module, class or function, those inside it included."""
    total = 0
    for inner in ast.walk(node):
        if isinstance(inner, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = inner.body[0] if inner.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                total += (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE.parent).as_posix()


def test_a_file_is_a_room_that_one_can_take_in() -> None:
    sizes = {name_of(path): len(text.splitlines()) - docstring_lines(tree) for path, tree, text in trees()}
    assert {name: size for name, size in sizes.items() if size > MAX_FILE_LINES} == {}


def test_a_function_fits_on_a_screen() -> None:
    long = {}
    for path, tree, _ in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring_lines(node)
                if size > MAX_FUNCTION_LINES:
                    long[f"{name_of(path)}:{node.name}"] = size
    assert long.keys() == LONG_FUNCTIONS.keys(), long


def test_a_class_name_means_one_thing() -> None:
    homes = defaultdict(list)
    for path, tree, _ in trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                homes[node.name.lstrip("_")].append(name_of(path))
    repeated = {name: where for name, where in homes.items() if len(where) > 1}
    assert repeated.keys() == REPEATED_CLASSES.keys(), repeated


def test_a_module_name_means_one_thing() -> None:
    homes = defaultdict(list)
    for path in FILES:
        if path.stem not in ("__init__", "__main__"):
            homes[path.stem].append(name_of(path))
    repeated = {name: where for name, where in homes.items() if len(where) > 1}
    assert repeated.keys() == REPEATED_MODULES.keys(), repeated
