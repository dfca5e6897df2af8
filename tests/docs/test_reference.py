"""Everything that a package offers by its `__all__` stands in the reference."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import mrlstore

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))
LISTED = set(re.findall(r"^::: (\S+)$", TEXT, re.MULTILINE))
APART = {"mrlstore.LIMITS", "mrlstore.__version__"}  # values, not things with a page of their own


@pytest.mark.parametrize(
    "package",
    [
        "mrlstore",
        "mrlstore.cluster",
        "mrlstore.exchange",
        "mrlstore.exchange.migrate",
        "mrlstore.embedders",
        "mrlstore.ingest",
        "mrlstore.shipping",
    ],
)
def test_what_is_offered_is_in_the_reference(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        full = f"{package}.{name}"
        home = getattr(getattr(module, name), "__module__", package)
        assert {full, home} & LISTED or full in APART, f"docs/reference lacks {full}"


def test_every_method_of_a_store_is_in_the_reference() -> None:
    listed = re.search(r"members: \[(.*?)\]", (REFERENCE / "store.md").read_text(), re.DOTALL)
    assert listed
    names = [name.strip() for name in listed[1].split(",")]
    assert sorted(names) == sorted(name for name in dir(mrlstore.Store) if not name.startswith("_"))
