"""mrlstore query in words: the embedder that the store recorded, unknown words, passages, what is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mrlstore
from mrlstore.embedders.local import LocalEmbedder
from tests import inside

from .conftest import Run

TEXTS = {
    "tides": "The moon pulls the water of the sea. " * 3 + "So the tides rise and fall twice a day.",
    "waves": "Wind over the sea makes waves, and waves wear down the coast.",
    "bread": "Flour, water and salt make a dough for bread.",
}


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose embedder is recorded and kept beside it."""
    path = tmp_path_factory.mktemp("ask") / "kb.mrl"
    embedder = LocalEmbedder.fit(list(TEXTS.values()), dim=3)
    embedder.save(path.with_name("kb.lsa.npz"))
    with mrlstore.open(path, embedder=embedder) as store:
        store.add(list(TEXTS.values()), list(TEXTS))
    return path


def test_a_question_in_words_needs_no_option(kb: Path, run: Run) -> None:
    done = run("query", kb, "why are there tides?", "-k", 1)
    assert done.code == 0 and "tides" in done.out.splitlines()[0]


def test_a_question_without_a_known_word_points_to_keywords(kb: Path, run: Run) -> None:
    done = run("query", kb, "zebra's stripes")
    assert (done.code, done.out) == (2, "") and done.err.count("\n") == 1
    assert 'knows no word of "zebra\'s stripes"' in done.err and "3 texts" in done.err
    assert f"mrlstore query {kb} --keywords 'zebra'\"'\"'s stripes'" in done.err


def test_a_model_that_is_not_there_or_another_one_is_told(kb: Path, tmp_path: Path, run: Run) -> None:
    moved = kb.with_name("moved.npz")
    model = kb.with_name("kb.lsa.npz")
    model.rename(moved)
    try:
        done = run("query", kb, "tides")
        assert done.code == 2 and "there is no" in done.err
        assert "kb.lsa.npz" in done.err and "--keywords" in done.err
        assert run("query", kb, "tides", "--embedder", moved, "-k", 1).code == 0
    finally:
        moved.rename(model)
    LocalEmbedder.fit(["one tide", "two tides", "three waves"]).save(tmp_path / "other.npz")
    done = run("query", kb, "tides", "--embedder", tmp_path / "other.npz")
    assert done.code == 2 and "another embedder" in done.err


def test_a_store_of_an_embedder_that_the_command_line_does_not_have(path: Path, run: Run) -> None:
    class Own:
        fingerprint = "my own model"

        def embed_documents(self, contents: Any) -> Any:
            return [[1.0, 2.0]] * len(contents)

        def embed_query(self, content: Any) -> Any:
            return [1.0, 2.0]

    with mrlstore.open(path, embedder=Own()) as store:
        store.add(["a text"], ["a"])
        assert store.embedder_fingerprint == "my own model"
    done = run("query", path, "a text")
    assert done.code == 2 and "'my own model', which the command line cannot load" in done.err
    assert run("info", path, "--json").json["settings"]["embedder"] == "my own model"


def test_rows_without_vectors_are_asked_by_keywords(path: Path, run: Run) -> None:
    with mrlstore.open(path) as store:
        store.upsert(["a"], None, None, ["some words"])
    assert "Ask by --keywords" in run("query", path, "some words").err
    assert [hit["id"] for hit in run("query", path, "--keywords", "words", "--json").json["hits"]] == ["a"]


def test_hits_by_keywords_show_the_passage_that_matched(kb: Path, run: Run) -> None:
    """The first paragraph of "tides" has none of the words in its first lines."""
    done = run("query", kb, "--keywords", "tides fall")
    assert "So the tides rise and fall twice a day." in done.out and "…" in done.out
    [hit] = run("query", kb, "--keywords", "tides", "--json").json["hits"]
    assert hit["passage"].startswith("…") and hit["passage"].endswith(
        "So the tides rise and fall twice a day."
    )
    both = run("query", kb, "bread", "--keywords", "waves", "--json").json["hits"]
    assert {hit["id"]: "passage" in hit for hit in both} == {"tides": False, "waves": True, "bread": False}


@pytest.mark.parametrize("options", [("--offset", 1, "-k", 1), ("--all",)], ids=["offset", "all"])
def test_passages_go_with_other_options(kb: Path, run: Run, options: tuple[object, ...]) -> None:
    [*_, last] = run("query", kb, "sea", "--keywords", "tides waves bread", *options, "--json").json["hits"]
    assert "passage" in last


@pytest.mark.parametrize(
    ("tokenizer", "keywords", "matched"),
    [
        ("unicode61", "cafe", ["Café"]),
        ("unicode61", "pars*", ["Parsing", "parser"]),
        ("unicode61", '"time zone"', ["time\n zone"]),
        ("unicode61", "zone absent", ["zone"]),
        ("porter", "parsed", ["Parsing"]),
        ("porter", "parsing*", ["Parsing", "parser"]),
        ("trigram", "sing", ["sing"]),
        ("trigram", "x", []),
        ("unicode61", "日本", []),
    ],
)
def test_passages_match_as_the_index_does(
    path: Path, tokenizer: Any, keywords: str, matched: list[str]
) -> None:
    document = "Café talk. " + "Nothing here. " * 40 + "Parsing with a parser in a time\n zone, 日本語."
    with mrlstore.open(path, tokenizer=tokenizer) as store:
        store.upsert(["a"], None, None, [document])
        result = store.query(keywords=keywords, include=("document",))
        [passage] = inside.passages_of(result, tokenizer) or [None]
    pieces = passage or ()
    shown = [piece.text for piece in pieces if piece.matched]
    assert shown == [" ".join(text.split()) for text in matched]
    assert "".join(piece.text for piece in pieces).strip("…") in " ".join(document.split())


def test_a_passage_is_where_most_words_stand_together(path: Path) -> None:
    document = "alpha " + "filler " * 100 + "beta alpha gamma " + "filler " * 100 + "gamma"
    with mrlstore.open(path) as store:
        store.upsert(["a", "b"], None, None, [document, "x" * 10_000 + " alpha " + "y" * 10_000])
        result = store.query(keywords="alpha beta gamma", include=("document",))
        [first, second] = inside.passages_of(result, "unicode61")
    assert [piece.text for piece in first if piece.matched] == ["beta", "alpha", "gamma"]
    assert [piece.text for piece in second] == ["…", "alpha", "…"]


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["query", "tides"], ""),
        (["query", "--keywords", "tides"], "numba scipy importlib.metadata"),
        (["count"], "numba scipy importlib.metadata"),
        (["get", "tides"], "numba scipy importlib.metadata"),
    ],
    ids=lambda value: "",
)
def test_a_command_loads_only_what_it_needs(kb: Path, arguments: list[str], heavy: str) -> None:
    names = f"sklearn rich google pyarrow matplotlib pypdf mrlstore.exchange {heavy}".split()
    line = [arguments[0], str(kb), *arguments[1:]]
    program = (
        "import sys; from mrlstore.cli import main\n"
        f"code = main({line!r})\n"
        f"print(code, [name for name in {names!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
