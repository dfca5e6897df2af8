"""Files, tests and pages that documents and comments name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted(
    path for folder in ("mrlstore", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
TESTS = set(
    re.findall(
        r"^ *(?:async )?def (test_\w+)",
        "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")),
        re.MULTILINE,
    )
)
MODULES = {path.stem for path in SOURCES}
FILES = {path.name for path in [*SOURCES, *(ROOT / "docs").rglob("*.py")]}
PRODUCTS = ("Pinecone", "Qdrant", "Chroma")  # names that links may have without being those of a page
FOLDERS = ("mrlstore", "tests", "benchmarks", "docs", "tools")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(rf"(?<![\w/.])((?:{'|'.join(FOLDERS)})/[\w/.-]*\w/?)", text)
    missing = [path for path in paths if not (ROOT / path).exists()]
    bare = re.findall(r"`(\w+\.py)`", text)
    missing += [name for name in bare if name not in FILES]
    missing += [
        name for name in re.findall(r"\b(test_[a-z0-9_]+)\b(?!\.py|/)", text) if name not in TESTS | MODULES
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert not [link for link in local if not (page.parent / link).exists()]


def title_of(page: Path) -> str | None:
    found = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return None if found is None else found[1]


def test_a_page_has_one_name() -> None:
    """In its heading, in the navigation, and in links to it that are written as a name, with a capital."""
    listed = re.findall(r"^ +- ([^:]+): (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert len(listed) > 30
    assert not [
        (name, page)
        for name, page in listed
        if title_of(ROOT / "docs" / page) not in (name, "mrlstore", None)
    ]
    wrong = []
    for page in PAGES:
        for words, link in re.findall(r"\[([^\]]+)\]\(([^)#:\s]+\.md)\)", page.read_text(encoding="utf-8")):
            name, target = " ".join(words.split()), page.parent / link
            title = title_of(target) if "decisions" not in target.parts else None
            if name[0].isupper() and title is not None and name not in (title, target.stem, *PRODUCTS):
                wrong.append((name_of(page), name, title))
    assert not wrong


def test_pages_that_comments_name_exist() -> None:
    named = {
        (name_of(path), page)
        for path in SOURCES
        for page in re.findall(
            r"(?<![\w/])(docs/[a-z\d/.-]*[a-z\d])(?![\w.])", path.read_text(encoding="utf-8")
        )
        if path != Path(__file__)
    }
    assert named
    assert not [
        (where, page)
        for where, page in sorted(named)
        if not (ROOT / page).exists() and not list((ROOT / page).parent.glob(f"{Path(page).name}-*"))
    ]
