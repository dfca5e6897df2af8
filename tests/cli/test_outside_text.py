"""Text from outside on a terminal: no control characters, in any encoding, from any command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore.cli import main, output

EVIL = "\x1b]0;title\x07\x1b[2J\x1b[31mred\x9b2J\x7f\r\x08"
NAME = "id\x1b[2J\x9b31m"


@pytest.fixture
def evil(path: Path) -> Path:
    with mrlstore.open(path, auto_maintain=False) as store:
        ids = [NAME, "second\nhit: fake", "plain"]
        metadatas: list[dict[str, Any]] = [{EVIL: EVIL, "list": [EVIL]}, {"n": EVIL}, {"n": 1}]
        store.upsert(
            ids, [[1.0, 0.5], [1.0, 0.6], [1.0, 0.7]], metadatas, [EVIL, f"two\nlines {EVIL}", "word"]
        )
        store.upsert([NAME], [[1.0, 2.0]], namespace=f"space{EVIL[:10]}")
    return path


def is_clean(text: str) -> bool:
    return not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


COMMANDS = [
    ["get", "{store}", NAME, "second\nhit: fake", f"absent{EVIL}"],
    ["scan", "{store}", "--all"],
    ["query", "{store}", "--vector", "[1, 0]", "--explain"],
    ["query", "{store}", "--keywords", "word two", "--explain"],
    ["info", "{store}"],
    ["stats", "{store}"],
    ["count", "{store}"],
    ["get", f"nothing{EVIL}", "a"],
    ["query", "{store}", "--id", f"absent{EVIL}"],
    ["scan", "{store}", "--where", f'{{"a{EVIL}": {{"$no": 1}}}}'],
    ["delete", "{store}", NAME, "--namespace", f"x{EVIL}"],
    ["update", "{store}", f"y{EVIL}", "-m", '{"a": 1}'],
    [f"--no-such{EVIL}"],
    ["import", "{store}", "{rows}"],
    ["export", "{store}", "{out}"],
    ["migrate", "{store}", f"kind{EVIL}:place"],
    ["verify", "{store}"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0][:10])
@pytest.mark.parametrize("as_json", [False, True])
def test_no_command_prints_control_characters(
    command: list[str], as_json: bool, evil: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / f"rows{NAME}.jsonl"
    rows.write_text(
        f'{{"id": {json.dumps(EVIL)}, "vector": [0, 0]}}\n{{"{NAME[:2]}": 1}}\n', encoding="utf-8"
    )
    names = {"{store}": str(evil), "{rows}": str(rows), "{out}": str(tmp_path / f"out{NAME}.jsonl")}
    arguments = [names.get(one, one) for one in command]
    main([*arguments, "--json"] if as_json else arguments)
    printed = capsys.readouterr()
    assert printed.out or printed.err
    assert is_clean(printed.out), repr(printed.out)
    assert is_clean(printed.err), repr(printed.err)


def test_a_line_end_in_an_id_is_no_line(evil: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["query", str(evil), "--vector", "[1, 0.6]"])
    assert "second\\nhit: fake" in capsys.readouterr().out


def test_json_keeps_the_text(evil: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["get", str(evil), NAME, "--json"])
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert (row["id"], row["document"], row["metadata"]) == (NAME, EVIL, {EVIL: EVIL, "list": [EVIL]})


def test_exported_lines_are_clean_and_come_back(evil: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    assert main(["export", str(evil), str(file)]) == 0
    assert is_clean(file.read_text(encoding="utf-8"))
    assert main(["import", str(tmp_path / "copy.mrl"), str(file)]) == 0
    with mrlstore.open(tmp_path / "copy.mrl", mode="r") as copy:
        assert copy.get([NAME])[0].metadata == {EVIL: EVIL, "list": [EVIL]}


def shell(encoding: str, *command: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    whole = [sys.executable, "-m", "mrlstore.cli", *command]
    return subprocess.run(whole, capture_output=True, env=environment, timeout=120)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_output_that_is_not_utf8(encoding: str, path: Path) -> None:
    with mrlstore.open(path, auto_maintain=False) as store:
        store.upsert(["straße 🦒"], [[1.0, 0.5]], [{"ключ": "значение"}], ["Ünïcödé 🦒"])
    for command in (["verify"], ["stats"], ["scan"], ["optimize"], ["query", "--id", "straße 🦒"]):
        done = shell(encoding, command[0], str(path), *command[1:])
        assert done.returncode == 0, (command, done.stderr)
        done.stdout.decode(encoding)
        assert b"Traceback" not in done.stderr
    done = shell(encoding, "scan", str(path), "--json")
    assert [row["id"] for row in json.loads(done.stdout.decode(encoding))["rows"]] == ["straße 🦒"]
    assert ("✓" in shell(encoding, "verify", str(path)).stdout.decode(encoding)) == (encoding == "utf-8")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9.mrl"
    done = shell("utf-8", "count", os.fsdecode(folder))
    assert done.returncode in (2, 3) and b"Traceback" not in done.stderr


def test_segments_of_styles_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.text import Text

    stream: Any = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    console = output.console()
    console._force_terminal = True
    monkeypatch.delenv("NO_COLOR", raising=False)
    console.print(Text("id\x1b[2J", style="bold"))
    assert "\x1b[2J" not in stream.getvalue() and "\\x1b[2J" in stream.getvalue()
