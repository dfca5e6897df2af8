"""The page of the rules is whole and true: every rule, test and switch that exists is named, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from tests.harness.switches import NUMBERED, SWITCHES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
TESTS = re.findall(
    r"^def (test_rule_(\d\d)_\w+)",
    (ROOT / "tests" / "rules" / "test_rules.py").read_text("utf-8"),
    re.MULTILINE,
)


def section(number: int) -> str:
    return next(text for text in SECTIONS if text.startswith(f"{number}. "))


def test_every_numbered_rule_names_its_tests_and_switches() -> None:
    numbers = [int(found[1]) for text in SECTIONS if (found := re.match(r"(\d+)\. ", text))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {int(number) for _, number in TESTS} == set(numbers)
    for number in numbers:
        named = set(re.findall(r"`(test_rule_\w+)`", section(number)))
        assert named == {name for name, of in TESTS if int(of) == number}
        switches = {name for name in NUMBERED if name.startswith(f"rule {number},")}
        assert switches and switches == set(
            re.findall(r'"([^"]+)"', section(number).partition("Switches: ")[2])
        )


def test_every_other_switch_stands_beside_its_test() -> None:
    rows = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|$", PAGE, re.MULTILINE))
    others = {name: switch.red for name, switch in SWITCHES.items() if not name.startswith("rule ")}
    assert rows == others


def test_every_switch_names_a_test_that_exists() -> None:
    for switch in SWITCHES.values():
        file, _, name = switch.red.partition("::")
        source = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {name.partition('[')[0]}\(", source, re.MULTILINE), switch.red
