"""What may not stand anywhere in the package: code that runs other people's bytes, or a shell."""

from __future__ import annotations

import ast
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import mrlstore

PACKAGE = Path(mrlstore.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "np.load",
    "numpy.load",
    "np.fromfile",
    "os.system",
    "os.popen",
    "yaml.load",
    "joblib.load",
}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
# Without a shell, and Python itself: the demo asks again in a new process; hnswlib runs in one of its own;
# kernels are compiled in others, and linked by the system's linker.
MAY_START_PROCESSES = {
    PACKAGE / "cli" / "demo",
    PACKAGE / "exchange" / "migrate" / "hnswlib_process.py",
    PACKAGE / "kernels" / "build.py",
    PACKAGE / "kernels" / "meanwhile.py",
}


def calls_of(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_runs_what_it_reads(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    assert not imported & FORBIDDEN_MODULES
    for name, call in calls_of(tree):
        if name in ("np.load", "numpy.load"):
            allowed = [word for word in call.keywords if word.arg == "allow_pickle"]
            assert allowed and ast.unparse(allowed[0].value) == "False", f"line {call.lineno}"
            continue
        assert name not in FORBIDDEN_CALLS, f"line {call.lineno}: {name}"
        shell = [word for word in call.keywords if word.arg == "shell"]
        assert not shell, f"line {call.lineno}: a shell"
    if "subprocess" in imported:
        assert any(place in (path, *path.parents) for place in MAY_START_PROCESSES)


RUN_SQL = {"execute", "executemany", "execute_many", "_keys"}  # by name: what takes a statement


@dataclass
class Written:
    """Says of an expression inside a function whether it is put together from texts of the module alone."""

    function: ast.AST

    def here(self, node: ast.AST | None) -> bool:
        match node:
            case ast.Constant():
                return True
            case ast.JoinedStr():
                return all(
                    self.here(part.value) for part in node.values if isinstance(part, ast.FormattedValue)
                )
            case ast.List() | ast.Tuple():
                return all(self.here(part) for part in node.elts)
            case ast.Starred() | ast.Subscript():  # an entry of a table of constants
                return self.here(node.value)
            case ast.Attribute():
                return node.attr.isupper()
            case ast.BinOp(op=ast.Mult()):  # as many question marks as there are values
                return self.here(node.left)
            case ast.ListComp() | ast.GeneratorExp():
                return self.here(node.elt)
            case ast.Call(func=ast.Attribute(value=text)):  # a method of a text
                return all(self.here(part) for part in (text, *node.args))
            case ast.Name():
                return node.id.isupper() or self.is_local(node.id)
        return False

    def is_local(self, name: str) -> bool:
        """Whether everything that the function ever binds to this name is written here; arguments are not."""
        given = [value for names, value in self.bindings() if name in names]
        return bool(given) and all(self.here(value) for value in given)

    def bindings(self) -> Iterator[tuple[set[str], ast.AST | None]]:
        for node in ast.walk(self.function):
            match node:
                case ast.arg():
                    yield {node.arg}, None
                case ast.Assign():
                    targets = [name for target in node.targets for name in names_in(target)]
                    yield set(targets), node.value
                case ast.AnnAssign() | ast.AugAssign() | ast.NamedExpr():
                    yield set(names_in(node.target)), node.value
                case ast.For() | ast.comprehension():
                    yield set(names_in(node.target)), node.iter
                case ast.Call(func=ast.Attribute(attr="append" | "extend", value=ast.Name(id=name))):
                    yield {name}, node.args[0]


def names_in(tree: ast.AST) -> list[str]:
    return [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]


def statements_of(tree: ast.AST, function: ast.AST) -> Iterator[tuple[ast.AST, ast.Call]]:
    """Calls that run SQL, each with the innermost function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        inner = node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).rsplit(".", 1)[-1] in RUN_SQL:
            yield inner, node
        yield from statements_of(node, inner)


def foreign_sql(source: str) -> list[str]:
    """Statements that hold anything but texts of their own module."""
    tree = ast.parse(source)
    found = []
    for function, call in statements_of(tree, tree):
        statement = next((arg for arg in call.args if names_in(arg) != ["connection"]), call.args[0])
        passed_on = isinstance(statement, ast.Name) and getattr(function, "name", "") in RUN_SQL
        if not passed_on and not Written(function).here(statement):
            found.append(f"line {call.lineno}: {ast.unparse(statement)}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_sql_takes_values_only_as_parameters(path: Path) -> None:
    """A statement may be put together from constants and from names of this module, never from arguments."""
    assert foreign_sql(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "body",
    [
        "db.execute(name)",
        "db.execute('SELECT ' + name)",
        "db.execute(f'SELECT {name}')",
        "db.execute('SELECT %s' % name)",
        "db.execute('SELECT {}'.format(name))",
        "db.executemany(' AND '.join(['a', name]), [])",
        "clauses = ['1']; clauses.append(name); db.execute(' AND '.join(clauses))",
        "clause = ''; clause = name; db.execute(f'SELECT {clause}')",
        "for x in (name, 'a'): db.execute(x)",
        "_keys(connection, f'SELECT {name}')",
        "db.execute(other)",
    ],
)
def test_the_check_of_sql_can_fail(body: str) -> None:
    assert foreign_sql(f"def asked(db, connection, name):\n    {body}\n")


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002, 0])
def test_modes_follow_the_umask(tmp_path: Path, umask: int) -> None:
    path, copy = tmp_path / "s.mrl", tmp_path / "copy.mrl"
    before = os.umask(umask)
    try:
        with mrlstore.open(path, auto_maintain=False) as store:
            store.upsert([f"r{i}" for i in range(5000)], np.eye(8, dtype=np.float32)[np.arange(5000) % 8])
            store.optimize()
            store.backup(copy)
            found = [path, *path.rglob("*"), copy, *copy.rglob("*")]
            modes = {place: stat.S_IMODE(place.stat().st_mode) for place in found}
    finally:
        os.umask(before)
    assert {"catalogue.db", "catalogue.db-wal", "LOCK", "parts", "part.json"} <= {p.name for p in modes}
    for place, mode in modes.items():
        assert mode == (0o777 if place.is_dir() else 0o666) & ~umask, (place, oct(mode))
