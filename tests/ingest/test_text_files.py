"""Front matter and HTML: what becomes text, what becomes metadata."""

from __future__ import annotations

import sys

import pytest

from tests import inside

PAGE = b"""<!DOCTYPE html><html><head><meta charset="utf-8"><title> The
 Title</title><style>p {color: red}</style></head>
<body><nav><ul><li><a href="/">Home</a></li><li>More</li></ul></nav><h1>A  heading</h1>
<p>Fish &amp; chips,<br>caf\xc3\xa9 <b>bold</b>.</p><script>if (1 < 2) { "<p>" }</script>
<table><tr><td>a</td><td>b</td></tr></table><pre>
def f():
    return 1</pre><p>an open end"""


def test_a_page_as_text() -> None:
    title, text = inside.html_text(PAGE)
    assert title == "The Title"
    assert text == (
        "- Home\n- More\n\n# A heading\n\nFish & chips,\ncafé bold.\n\na b\n\n"
        "def f():\n    return 1\n\nan open end"
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"<p>caf\xe9", "café"),
        (b'<meta charset="iso-8859-2"><p>\xb1', "ą"),
        (b'<meta charset="nonsense"><p>\x93a\x94', "“a”"),
        ("<p>日本".encode("utf-16"), "日本"),
        (b"\xef\xbb\xbf<p>x", "x"),
        (b"", ""),
        (b"<<<>>></p>", "<<<>>>"),
        (b"<head><title>a</title><p>not closed<body><p>b", "b"),
        (b"<script>never closed <p>a", ""),
    ],
)
def test_pages_of_all_kinds(data: bytes, text: str) -> None:
    assert inside.html_text(data).text == text


@pytest.mark.parametrize("unit", [b"<a ", b"<![", b"<!--", b"</", b"&#1"])
def test_a_crafted_page_costs_little_time(unit: bytes) -> None:
    """Python's parser fails on some of these, and takes hours for others if it is let."""
    assert inside.html_text(b"<p>text " + unit * 100_000).text.startswith("text")


@pytest.mark.parametrize(
    ("head", "metadata"),
    [
        ("---\ntitle: Tides\ntags: [sea, moon]\n---\n", {"title": "Tides", "tags": ["sea", "moon"]}),
        (
            "---\ndate: 2024-05-01\nempty:\nn: .nan\n1: yes\n---\n",
            {"date": "2024-05-01", "n": "nan", "1": True},
        ),
        ("---\n---\n", {}),
        (
            "+++\ntitle = 'T'\ndate = 2024-05-01\n[a]\nb = 1\n+++\n",
            {"title": "T", "date": "2024-05-01", "a": {"b": 1}},
        ),
    ],
)
def test_front_matter_is_taken_off(head: str, metadata: dict[str, object]) -> None:
    assert inside.split_front_matter(head + "The text.\n") == (metadata, "The text.\n")


BOMB = "---\na: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "no front matter\n---\na: 1\n---\n",
        "---\nA rule, and no end",
        "---\njust words\n---\nmore",
        "---\n- a list\n---\n",
        "---\na: [1\n---\n",
        "---\nd: 2024-99-99\n---\n",
        "+++\na = \n+++\n",
        BOMB + "---\n",
        "---\na: " + "[" * 5000 + "\n---\n",
        "---\na: '" + "x" * 70_000 + "'\n---\n",
        "---\na: !!python/object/apply:os.system ['true']\n---\n",
    ],
)
def test_what_is_no_front_matter_stays_in_the_text(text: str) -> None:
    assert inside.split_front_matter(text) == ({}, text)


def test_without_pyyaml_front_matter_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert inside.split_front_matter("---\na: 1\n---\nb") == ({}, "---\na: 1\n---\nb")
    assert inside.split_front_matter("+++\na = 1\n+++\nb") == ({"a": 1}, "b")
