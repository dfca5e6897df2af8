"""What holds for every command: help, exit codes, one-line errors, JSON, pipes."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import mrlstore
from mrlstore.cli import failures
from mrlstore.cli.app import COMMANDS, GROUPS, app
from mrlstore.cli.output import bytes_text, share_bar

from .conftest import Run, make_rows, write_jsonl

READERS = {
    "query": ["--id", "x"],
    "get": ["x"],
    "count": [],
    "stats": [],
    "info": [],
    "optimize": [],
    "verify": [],
    "repair": [],
    "scan": [],
    "duplicates": [],
    "update": ["x", "-m", "{}"],
    "delete": ["x"],
    "export": ["elsewhere.jsonl"],
    "backup": ["elsewhere"],
    "tiers": [],
    "calibrate": [],
    "set-prefix-dim": ["4"],
}
WITH_OWN_TESTS = {"keys", "serve", "create", "import", "export-hnswlib", "migrate", "demo", "add", "re-embed"}
WITH_OWN_TESTS |= {"ship", "restore", "cluster"}


def run_process(*arguments: str, program: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mrlstore.cli"] if not program else [sys.executable, "-c", program]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def test_the_version(run: Run) -> None:
    for option in ("--version", "-V"):
        done = run(option)
        assert (done.code, done.out) == (0, f"mrlstore {mrlstore.__version__}\n")


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["count", "x.mrl"], 1)])
def test_without_the_extra_the_version_answers_and_commands_say_what_to_install(
    arguments: list[str], code: int
) -> None:
    program = (
        "import sys; sys.modules['click'] = sys.modules['rich'] = None\n"
        "from mrlstore.cli import main; sys.exit(main())"
    )
    done = run_process(*arguments, program=program)
    assert done.returncode == code
    if code:
        assert "pip install 'mrlstore[cli]'" in done.stderr
        assert "Traceback" not in done.stderr
    else:
        assert done.stdout == f"mrlstore {mrlstore.__version__}\n"


def test_help_names_every_command_and_every_exit_code(run: Run) -> None:
    shown = run("--help").out
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", shown, re.MULTILINE), name
    assert all(f"  {code}  " in shown for code in range(7))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_teaches_by_example(name: str, run: Run) -> None:
    done = run(name, "--help")
    assert done.code == 0
    examples = re.findall(rf"^ +(?:zcat .* \| )?mrlstore {name}\b(.*)$", done.out, re.MULTILINE)
    assert examples, f"mrlstore {name} --help shows no example"
    command = app.get_command(click.Context(app), name)
    assert command is not None
    for example in examples:
        with command.make_context(name, shlex.split(example), resilient_parsing=True):
            pass
        inner = list(command.commands.values()) if isinstance(command, click.Group) else []
        options = {option for each in (command, *inner) for given in each.params for option in given.opts}
        used = {word for word in shlex.split(example) if word.startswith("-") and len(word) > 1}
        assert used <= options, f"the example {example!r} uses unknown options"


def test_a_group_alone_shows_its_help(run: Run) -> None:
    groups = [name for name in COMMANDS if isinstance(app.get_command(click.Context(app), name), click.Group)]
    assert sorted(GROUPS) == sorted(groups)
    for name in groups:
        assert (run(name).code, run(name).out) == (0, run(name, "--help").out)


@pytest.mark.parametrize("name", READERS)
def test_a_store_that_is_not_there_is_told_in_one_line_and_not_created(
    name: str, tmp_path: Path, run: Run
) -> None:
    absent = tmp_path / "absent.mrl"
    done = run(name, absent, *READERS[name])
    assert done.code == 3
    assert done.out == ""
    assert done.err.startswith("mrlstore: ")
    assert done.err.count("\n") == 1
    assert "absent.mrl" in done.err
    assert not absent.exists()


def test_errors_are_json_where_json_was_asked_for(tmp_path: Path, run: Run) -> None:
    done = run("stats", tmp_path / "absent.mrl", "--json")
    told = json.loads(done.err)
    assert (told["error"], told["exit_code"]) == ("StoreNotFound", 3)


def test_a_folder_that_is_no_store(tmp_path: Path, run: Run) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("mine")
    done = run("count", tmp_path / "folder")
    assert done.code in (3, 5)
    assert done.err.count("\n") == 1
    assert (tmp_path / "folder" / "file").read_text() == "mine"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - WITH_OWN_TESTS))
def test_every_command_prints_one_json_value(name: str, filled: Path, tmp_path: Path, run: Run) -> None:
    more: dict[str, list[Any]] = {
        "query": ["--id", "row-1"],
        "get": ["row-1"],
        "facets": ["n"],
        "update": ["row-1", "-m", '{"read": true}'],
        "delete": ["row-1"],
        "export": [tmp_path / "rows.jsonl"],
        "backup": [tmp_path / "copy.mrl"],
        "set-prefix-dim": ["4"],
        "set-graph": ["mrlstore"],
    }
    first = "zsh" if name == "completion" else filled
    done = run(name, first, *more.get(name, []), "--json")
    assert (done.code, done.err) == (0, "")
    assert isinstance(done.json, dict)


def test_without_a_command_it_shows_the_help(run: Run) -> None:
    bare, asked = run(), run("--help")
    assert (bare.code, bare.out, bare.err) == (0, asked.out, "")


def test_a_file_or_place_that_is_not_there_is_told_as_such(filled: Path, tmp_path: Path, run: Run) -> None:
    done = run("query", filled, "--vector", tmp_path / "none.npy")
    assert done.code == 2 and "no file" in done.err and len(done.err.splitlines()) == 1
    nowhere = Path("/proc/mrlstore-backup")  # exists, and nothing can be made there
    done = run("backup", filled, nowhere)
    assert done.code == 1 and str(nowhere) in done.err and "catalogue" not in done.err
    done = run("create", filled)
    assert done.code == 4 and done.err == f"mrlstore: {filled} is a store already\n"


def test_an_unknown_command(run: Run) -> None:
    done = run("frobnicate")
    assert done.code == 2
    assert "frobnicate" in done.err


def test_a_slip_in_a_command_is_answered_with_the_nearest_one(run: Run) -> None:
    assert "No such command 'creat'. Did you mean 'create'?" in run("creat", "x.mrl").err
    assert "Did you mean" not in run("zzz").err


def test_what_is_empty_or_absent_is_said(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("create", "empty.mrl", "--dim", 4)
    assert "no row has a value for year" in run("facets", "empty.mrl", "year").err
    assert "no rows" in run("sample", "empty.mrl").err
    assert "keys.json does not exist" in run("keys", "list", "keys.json").err
    assert run("tiers", "none.npy").err.startswith("mrlstore: none.npy: no such file")
    assert run("export", "empty.mrl", "none/rows.jsonl").err == "mrlstore: none: no such folder\n"


def test_errors_of_the_system_are_said_without_their_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    denied = "writing a backup to /data/b.mrl: Permission denied"
    for error, said in [
        (PermissionError(13, "Permission denied", "data/.1f2e.partial"), "data: permission denied"),
        (mrlstore.StorageError(13, denied, "/data/b.mrl.tmp-1f2e"), denied),
        (OSError(98, "address already in use"), "address already in use"),
    ]:
        assert failures.report(error, "x.mrl", as_json=False) == 1
        assert capsys.readouterr().err == f"mrlstore: {said}\n"


@pytest.mark.parametrize("command", ["get {} row-1 row-2", "scan {} --json", "query {} --id row-1 --explain"])
def test_a_reader_that_has_seen_enough_is_no_error(filled: Path, command: str) -> None:
    program = f"{shlex.quote(sys.executable)} -u -m mrlstore.cli {command.format(filled)}"
    script = f"{program} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("0", "")


def test_progress_is_shown_on_a_terminal(filled: Path, tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "r.jsonl", make_rows(50))
    command = [sys.executable, "-m", "mrlstore.cli", "import", str(filled), str(rows), "--batch", "10"]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, check=True)
        os.close(theirs)
        shown = terminal.read(65536).decode()
    assert "importing" in shown
    assert "100%" in shown
    assert b"Imported 50 rows" in done.stdout


def test_no_progress_is_shown_where_nobody_looks(filled: Path) -> None:
    done = run_process("optimize", str(filled))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (123_456, "123 KB"), (5.5e9, "5.5 GB"), (2e12, "2.0 TB")],
)
def test_bytes_for_people(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(("share", "full"), [(0, 0), (0.5, 5), (1, 10), (2, 10), (-1, 0)])
def test_bars(share: float, full: int) -> None:
    assert share_bar(share, 10) == "█" * full + "░" * (10 - full)
