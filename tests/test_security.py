"""What may not stand anywhere in the package: code that runs other people's bytes, or a shell."""

from __future__ import annotations

import ast
import os
import stat
from collections.abc import Iterator
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
MAY_START_PROCESSES = {PACKAGE / "cli" / "demo"}  # the demo asks again in a new process, without a shell


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
        assert any(place in path.parents for place in MAY_START_PROCESSES)


CONSTANTS = {"_FIELDS", "assignments", "marks", "schema.FORMAT_VERSION"}
CONSTANTS |= {"INDEXED", "keywords.INDEXED", "TOKENIZERS[tokenizer]"}  # an entry of a table of constants
CONSTANTS |= {"clause", "first", "second", "x", "_P", "_Q", "_R"}  # texts written out beside, and primes


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_sql_takes_values_only_as_parameters(path: Path) -> None:
    """A statement may be put together from constants and from names of this module, never from arguments."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, call in calls_of(tree):
        if name.rsplit(".", 1)[-1] not in ("execute", "executemany") or not call.args:
            continue
        statement = call.args[0]
        if isinstance(statement, ast.JoinedStr):
            inserted = [
                ast.unparse(value.value)
                for value in statement.values
                if isinstance(value, ast.FormattedValue)
            ]
            assert set(inserted) <= CONSTANTS, f"line {call.lineno}: {inserted}"
        elif isinstance(statement, ast.BinOp):
            assert "%" not in ast.unparse(statement), f"line {call.lineno}"


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with mrlstore.open(tmp_path / "private.mrl", auto_maintain=False) as store:
            store.upsert([f"r{i}" for i in range(5000)], np.eye(8, dtype=np.float32)[np.arange(5000) % 8])
            store.optimize()
            modes = {
                path: stat.S_IMODE(path.stat().st_mode)
                for path in [tmp_path / "private.mrl", *(tmp_path / "private.mrl").rglob("*")]
            }
    finally:
        os.umask(before)
    assert len(modes) > 20
    assert {mode & 0o077 for mode in modes.values()} == {0}
