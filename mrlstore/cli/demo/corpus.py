"""Collects the docstrings of the standard library. Files are parsed, never imported."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SKIPPED: Final = frozenset(
    {"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages"}
)
SHORTEST: Final = 60  # characters; shorter docstrings say too little to be found by meaning


@dataclass(frozen=True, slots=True)
class Docstring:
    """One docstring, and where it was found."""

    name: str  # "datetime.date.fromisoformat"
    kind: str  # "module", "class", "function", "method"
    module: str
    line: int
    text: str

    @property
    def public(self) -> bool:
        """Whether no part of the name starts with an underscore."""
        return not any(part.startswith("_") for part in self.name.split("."))


def standard_library(limit: int | None = None) -> list[Docstring]:
    """The docstrings of the standard library of this Python, without repeated names or texts.

    At most `limit` of them, if that is given.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    names: set[str] = set()
    texts: set[str] = set()
    found: list[Docstring] = []
    paths = sorted(root.rglob("*.py"))
    if limit is not None:
        paths.sort(
            key=lambda path: path.name[::-1]
        )  # by reversed name, so that few files still come from many packages
    for path in paths:
        if limit is not None and len(found) >= limit:
            break
        relative = path.relative_to(root)
        if SKIPPED.intersection(relative.parts):
            continue
        for docstring in _of_file(path, relative):
            known = docstring.name in names or docstring.text in texts
            if len(docstring.text) < SHORTEST or known:
                continue
            names.add(docstring.name)
            texts.add(docstring.text)
            found.append(docstring)
    return found[:limit]


def _of_file(path: Path, relative: Path) -> Iterator[Docstring]:
    parts = relative.with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some old files have invalid escape sequences
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return  # a template, or a file that is deliberately invalid
    yield from _of_node(tree, module, "module", module)


def _of_node(node: ast.AST, name: str, kind: str, module: str) -> Iterator[Docstring]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text:
            yield Docstring(name, kind, module, getattr(node, "lineno", 1), text)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _of_node(child, f"{name}.{child.name}", "class", module)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            child_kind = "method" if isinstance(node, ast.ClassDef) else "function"
            yield from _of_node(child, f"{name}.{child.name}", child_kind, module)
