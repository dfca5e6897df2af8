"""Every code block of the README and of docs/ is run, in order, in an empty folder.

Blocks of ```python share one namespace per page. In blocks of ```console, lines that start with `$ mrlstore`
are run, and the lines below them, where there are any, must be what is printed (`...` stands for anything).
Commands in ```sh are only shown; the options of those of mrlstore must exist. ```py is run by another test.
A block that cannot be run stands below a line `<!-- not run: the reason -->`. A page that says
`<!-- needs: pyarrow, pandas -->` is skipped where these packages are not installed.
"""

from __future__ import annotations

import fnmatch
import logging
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from mrlstore.cli import main
from mrlstore.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: \S.* -->\s*\Z")

ELSEWHERE = {"py": ["docs/gemini.md"]}  # tests/embedders/gemini/test_guide.py runs it with another client
SHOWN = {"sh", "text", "json", ""}
GIVEN = {  # files that a page takes for granted
    "README.md": {
        "notes/tides.md": "The moon pulls the water of the sea: there are tides twice a day.",
        "notes/bread.md": "Flour, water and salt make a dough, and yeast makes it rise.",
        "notes/whales.md": "The blue whale is the largest animal that ever lived in the sea.",
    }
}
NEEDS = re.compile(r"<!-- needs: ([\w, ]+) -->")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        if match[2] in ("python", "console") and not NOT_RUN.search(text[: match.start()]):
            indent = len(match[1])
            lines = [line[indent:] for line in match[3].splitlines()]
            found.append(Block(match[2], "\n".join(lines), text.count("\n", 0, match.start()) + 2))
    return found


def run_python(block: Block, page: Path, names: dict[str, Any]) -> None:
    padded = "\n" * (block.line - 1) + block.text  # so that tracebacks tell lines of the page
    exec(compile(padded, str(page), "exec"), names)


def run_console(block: Block, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE):
        command, _, expected = part.partition("\n")
        if not command.startswith("$ mrlstore "):
            continue
        capsys.readouterr()
        code = main(shlex.split(command)[2:])
        printed = capsys.readouterr()
        assert code == 0, f"{page.name}:{block.line}: {command}: {printed.err}"
        if expected.strip():
            pattern = re.sub(r"\\?\[", "[[]", expected.strip()).replace("...", "*")
            assert fnmatch.fnmatchcase(printed.out.strip(), pattern), f"{page.name}: {printed.out}"


@pytest.fixture
def logger() -> Iterator[None]:
    """Pages may set up the logger; afterwards it is as before."""
    log = logging.getLogger("mrlstore")
    level, handlers = log.level, list(log.handlers)
    yield
    log.setLevel(level)
    log.handlers[:] = handlers


@pytest.mark.usefixtures("logger")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks_of(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for needed in NEEDS.findall(page.read_text(encoding="utf-8")):
        for package in needed.split(","):
            pytest.importorskip(package.strip())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name, text in GIVEN.get(page.name, {}).items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.language == "python":
            run_python(block, page, names)
        else:
            run_console(block, page, capsys)


def test_every_block_is_run_or_says_why_not() -> None:
    """Each language has a known runner; a ```console block without a prompt would silently run nothing."""
    for page in PAGES:
        text, name = page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))
        for match in FENCE.finditer(text):
            language = match[2]
            if language in ELSEWHERE:
                assert name in ELSEWHERE[language]
            elif language == "console":
                assert NOT_RUN.search(text[: match.start()]) or re.search(r"^ *\$ ", match[3], re.M), name
            else:
                assert language == "python" or language in SHOWN, f"{name}: {language}"


def test_the_readme_and_the_first_guide_have_code() -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "getting-started.md"):
        assert len(blocks_of(page)) >= 1, page


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_commands_that_are_only_shown_can_be_given() -> None:
    """Blocks of sh and console that are not run: their mrlstore commands exist and take these options."""
    seen = 0
    for page in PAGES:
        for match in FENCE.finditer(page.read_text(encoding="utf-8")):
            if match[2] not in ("sh", "console"):
                continue
            for line in match[3].replace("\\\n", " ").splitlines():
                words = command_of(line)
                if words:
                    seen += 1
                    command = app.get_command(click.Context(app), words[0])
                    assert command is not None, f"{page.name}: {line}"
                    used = {
                        word.partition("=")[0] for word in words[1:] if re.match(r"-[a-z]$|--[a-z]", word)
                    }
                    assert used <= options_of(command), f"{page.name}: {line}"
    assert seen > 40


def options_of(command: click.Command) -> set[str]:
    inner = list(command.commands.values()) if isinstance(command, click.Group) else []
    return {option for each in (command, *inner) for given in each.params for option in given.opts}


def command_of(line: str) -> list[str]:
    """The words of a mrlstore command behind a prompt and variables, without what the shell does with it."""
    found = re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*mrlstore (.+)$", line)
    if found is None:
        return []
    words = shlex.split(re.split(r" [|>#] | \|\| | >> |\s+# ", found[1])[0])
    return [word for word in words if word != "..."]
