"""The page on architecture lists the packages in their order, and each term of the glossary once."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_imports import ORDER, PACKAGE

TEXT = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_packages_stand_in_the_order_of_their_imports() -> None:
    present = [name for name in ORDER if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()]
    assert re.findall(r"^\| `(\w+)` \|", section("The packages"), re.MULTILINE) == present


def test_the_glossary_is_in_alphabetical_order_and_names_each_term_once() -> None:
    terms = re.findall(r"^\| ([^|]+) \| ", section("Glossary"), re.MULTILINE)[1:]
    keys = [re.sub(r"[^a-z]", "", term.lower()) for term in terms]
    assert len(terms) > 40
    assert keys == sorted(set(keys))
