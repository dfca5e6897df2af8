"""mrlstore query, get and count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mrlstore
from mrlstore.embedders.local import LocalEmbedder

from .conftest import DIM, Run, make_rows, write_jsonl

ROWS = make_rows(20)


def nearest(question: list[float], count: int, chosen: list[int] | None = None) -> list[str]:
    """The answer by plain numpy."""
    places = list(range(20)) if chosen is None else chosen
    vectors = np.array([ROWS[place]["vector"] for place in places])
    scores = vectors @ np.array(question) / np.linalg.norm(vectors, axis=1)
    return [ROWS[places[place]]["id"] for place in np.argsort(-scores)[:count]]


def test_query_by_a_vector_in_json(filled: Path, run: Run) -> None:
    question = [0.3, -1.0, 0.5, 0.1, 0.0, 0.2, 2.0, -0.4]
    answer = run("query", filled, "--vector", json.dumps(question), "-k", 4, "--json").json
    assert [hit["id"] for hit in answer["hits"]] == nearest(question, 4)
    assert answer["hits"][0]["metadata"] == ROWS[int(answer["hits"][0]["id"][4:])]["metadata"]
    assert answer["seconds"] > 0
    assert answer["plan"]["segments"]


def test_query_by_a_numpy_file_and_a_filter(filled: Path, tmp_path: Path, run: Run) -> None:
    question = [1.0] * DIM
    np.save(tmp_path / "q.npy", np.array([question]))
    answer = run("query", filled, "--vector", tmp_path / "q.npy", "--where", '{"even": true}', "--json").json
    assert [hit["id"] for hit in answer["hits"]] == nearest(question, 10, list(range(0, 20, 2)))


def test_query_by_an_id_and_exactly(filled: Path, run: Run) -> None:
    for more in ((), ("--exact",), ("--dim", DIM)):
        answer = run("query", filled, "--id", "row-5", "-k", 1, "--json", *more).json
        found = answer["hits"][0]["id"]
        assert found in nearest(ROWS[5]["vector"], 2)


def test_query_by_words(tmp_path: Path, run: Run) -> None:
    texts = ["red apple pie", "green pear tart", "blue plum jam", "red cherry cake"]
    embedder = LocalEmbedder.fit(texts, dim=4)
    embedder.save(tmp_path / "model")
    vectors = embedder.embed_documents(texts)
    rows = [
        {"id": text.split()[1], "vector": vector.tolist(), "document": text}
        for text, vector in zip(texts, vectors, strict=True)
    ]
    assert run("import", tmp_path / "s.mrl", write_jsonl(tmp_path / "r", rows)).code == 0
    asked = ("query", tmp_path / "s.mrl", "--embedder", tmp_path / "model")
    for words in (["a plum"], ["a", "plum"]):  # in quotes, and without
        done = run(*asked, *words, "-k", 1, "--json")
        assert done.json["hits"][0]["id"] == "plum"


def test_hits_for_people(filled: Path, run: Run) -> None:
    done = run("query", filled, "--id", "row-5", "-k", 3, "--explain")
    assert done.code == 0
    assert "The text of row" in done.out
    assert "3 hits in" in done.out
    assert "generation" in done.out


def test_a_target_recall_is_asked_for_and_told(filled: Path, run: Run) -> None:
    assert run("query", filled, "--id", "row-5", "--target-recall", 1, "--json").json["plan"]["target"] == 1
    assert run("query", filled, "--id", "row-5", "--target-recall", 1.5).code == 2
    assert run("query", filled, "--id", "row-5", "--target-recall", 0.9, "--ef", 50).code == 2


def test_data_is_not_taken_for_styling(tmp_path: Path, run: Run) -> None:
    row = {"id": "[red]", "vector": [1.0] * DIM, "document": "[bold]a[/bold] [/nope]"}
    run("import", tmp_path / "s.mrl", write_jsonl(tmp_path / "r", [row]))
    for command in (("query", "--id", "[red]"), ("get", "[red]")):
        done = run(command[0], tmp_path / "s.mrl", *command[1:])
        assert done.code == 0
        if command[0] == "get":
            assert "[red]" in done.out
            assert "[bold]a[/bold] [/nope]" in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--id", "row-1", "--vector", "[1]"),
        ("words", "--id", "row-1"),
        ("words", "--vector", "[1]"),
        ("words",),
        ("words", "--embedder", "local"),
        ("--id", "row-1", "--embedder", "local"),
        ("--id", "row-1", "-k", "0"),
        ("--id", "row-1", "-k", "many"),
        ("--vector", "[1, 2"),
        ("--vector", "[1, 2]"),
        ("--vector", "[[1, 2], [3, 4]]"),
        ("--id", "row-1", "--where", "{no"),
        ("--id", "row-1", "--where", "[1]"),
        ("--id", "row-1", "--where", '{"a": {"$near": 1}}'),
        ("--id", "row-1", "--unknown"),
    ],
)
def test_bad_questions_are_refused_in_one_line(filled: Path, run: Run, arguments: tuple[str, ...]) -> None:
    done = run("query", filled, *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("mrlstore: ")
    assert done.err.count("\n") == 1


def test_a_row_to_compare_with_that_is_not_there(filled: Path, run: Run) -> None:
    done = run("query", filled, "--id", "row-nobody")
    assert (done.code, done.out, done.err) == (3, "", "mrlstore: no row has the id row-nobody\n")
    assert run("query", filled, "--id", "row-1", "--namespace", "elsewhere").code == 3


def test_a_missing_vector_file_is_told(filled: Path, run: Run) -> None:
    done = run("query", filled, "--vector", "absent.npy")
    assert done.code == 2
    assert "absent.npy" in done.err


def test_vectors_that_are_no_numbers_are_refused(filled: Path, tmp_path: Path, run: Run) -> None:
    np.save(tmp_path / "complex.npy", np.full(DIM, 1j))
    np.save(tmp_path / "words.npy", np.array(["1"] * DIM))
    np.savez(tmp_path / "several.npz", a=np.ones(DIM))
    (tmp_path / "cut.npy").write_bytes(b"")
    files = [tmp_path / name for name in ("complex.npy", "words.npy", "several.npz", "cut.npy")]
    for given in (*files, tmp_path, '["1", "2", "3", "4", "5", "6", "7", "8"]', "[null]", "[" * 100_000):
        done = run("query", filled, "--vector", given)
        assert (done.code, done.out) == (2, ""), given
        assert done.err.startswith("mrlstore: "), given
        assert done.err.count("\n") == 1, given


def test_get_shows_rows_in_the_order_asked(filled: Path, run: Run) -> None:
    rows = run("get", filled, "row-9", "row-2", "--json", "--vector").json["rows"]
    assert [row["id"] for row in rows] == ["row-9", "row-2"]
    np.testing.assert_allclose(rows[1]["vector"], ROWS[2]["vector"], atol=2e-3)
    shown = run("get", filled, "row-2", "--vector")
    assert "row-2" in shown.out
    assert "The text of row 2." in shown.out
    assert "8 dims" in shown.out


def test_get_by_filter(filled: Path, run: Run) -> None:
    rows = run("get", filled, "-w", '{"even": true}', "--limit", 3, "--json").json
    assert ([row["id"] for row in rows["rows"]], rows["missing"]) == (["row-0", "row-10", "row-12"], [])
    done = run("get", filled, "row-3", "row-4", "nobody", "-w", '{"even": true}', "--json")
    assert ([row["id"] for row in done.json["rows"]], done.json["missing"]) == (["row-4"], ["nobody"])
    assert done.code == 3
    assert run("get", filled).code == 2
    assert run("get", filled, "-w", "{}").code == 2


def test_get_tells_what_is_missing(filled: Path, run: Run) -> None:
    done = run("get", filled, "row-1", "nobody")
    assert done.code == 3
    assert "row-1" in done.out
    assert done.err == "mrlstore: no row has the id nobody\n"
    assert run("get", filled, "nobody", "--json").json == {"rows": [], "missing": ["nobody"]}


def test_count(filled: Path, run: Run) -> None:
    assert run("count", filled).out == "20\n"
    assert run("count", filled, "--where", '{"n": {"$lt": 5}}').out == "5\n"
    assert run("count", filled, "--where", '{"even": true}', "--json").json == {"rows": 10}


def test_query_by_keywords_and_by_both(filled: Path, run: Run) -> None:
    answer = run("query", filled, "--keywords", '7 AND "of row"', "-k", 3, "--json").json
    assert answer["hits"][0]["id"] == "row-7" and len(answer["hits"]) == 3
    assert answer["plan"]["keywords"]["searched"] == ["7", "AND", "of row"]
    question = ROWS[3]["vector"]
    asked = ("query", filled, "--vector", json.dumps(question), "--keywords", "7", "--weights", 1, 3)
    both = run(*asked, "--json").json
    assert [hit["id"] for hit in both["hits"][:2]] == ["row-7", "row-3"]
    shown = run(*asked, "--explain")
    assert shown.code == 0 and "by keywords" in shown.out and "weights 1 and 3" in shown.out
    assert "generation" in shown.out  # the vectors' plan is told too
    assert "BM25" in run("query", filled, "--keywords", "7", "--explain").out


def test_keywords_that_find_nothing_and_wrong_options(filled: Path, run: Run) -> None:
    assert run("query", filled, "--keywords", "!!", "--json").json["hits"] == []
    assert "weights" in run("query", filled, "--id", "row-1", "--weights", 1, 1).err
    assert "--keywords" in run("query", filled).err


def test_create_with_a_tokenizer(tmp_path: Path, run: Run) -> None:
    assert run("create", tmp_path / "t.mrl", "--tokenizer", "trigram").code == 0
    rows = [{"id": "a", "document": "日本の首都"}, {"id": "b", "document": "something"}]
    assert run("import", tmp_path / "t.mrl", write_jsonl(tmp_path / "r", rows)).code == 0
    assert [
        hit["id"] for hit in run("query", tmp_path / "t.mrl", "--keywords", "の首都", "--json").json["hits"]
    ] == ["a"]


def test_facets(filled: Path, run: Run) -> None:
    done = run("facets", filled, "even", "--where", '{"n": {"$gt": 4}}', "--json").json
    assert done == {"values": [{"value": False, "count": 8}, {"value": True, "count": 7}], "more": False}
    shown = run("facets", filled, "n", "--limit", 2)
    assert shown.out.split() == ["1", "0", "1", "1"]
    assert "more values" in shown.err
    assert run("facets", filled, "$or").code == 2


def test_sample(filled: Path, run: Run) -> None:
    rows = run("sample", filled, 3, "--seed", 1, "-w", '{"even": true}', "--json").json["rows"]
    assert len(rows) == 3 and all(row["metadata"]["even"] for row in rows)
    assert run("sample", filled, 3, "--seed", 1, "-w", '{"even": true}', "--json").json["rows"] == rows
    assert "row-" in run("sample", filled).out


def test_query_in_pages_in_groups_and_by_examples(filled: Path, run: Run) -> None:
    def hits(*line: object) -> list[str]:
        return [hit["id"] for hit in run("query", filled, *line, "--json").json["hits"]]

    whole = hits("--id", "row-3", "-k", 9)
    assert hits("--id", "row-3", "-k", 4, "--offset", 5) == whole[5:]
    grouped = run("query", filled, "--id", "row-3", "--group-by", "even", "--group-size", 2, "--json").json
    assert [group["value"] for group in grouped["groups"]] == [False, True]
    assert grouped["groups"][0]["ids"][0] == "row-3"
    assert run("query", filled, "--id", "row-3", "--group-by", "even").out.splitlines()[0] == "false"
    alike = hits("--like", "row-3", "--like", "row-4", "--unlike", "row-5", "-k", 20)
    assert len(alike) == 17 and not {"row-3", "row-4", "row-5"} & set(alike)
    assert len(hits("--id", "row-3", "--diversity", 0.5, "--candidates", 15)) == 10
    assert run("query", filled, "--like", "row-3", "--id", "row-4").code == 2
    assert run("query", filled, "--unlike", "row-3").code == 2


def test_query_of_several_namespaces(filled: Path, run: Run) -> None:
    with mrlstore.open(filled) as store:
        store.upsert(["other"], [np.ones(8)], namespace="a")
    question = ("query", filled, "--vector", "[1, 1, 1, 1, 1, 1, 1, 1]")
    assert run(*question, "-n", "a", "-n", "", "--json").json["hits"][0]["namespace"] == "a"
    assert len(run(*question, "--all", "-k", 50, "--json").json["hits"]) == 21
    assert "other  in a" in run(*question, "--all").out
    assert run("query", filled, "--id", "row-3", "--all").code == 2


def test_scan_in_the_order_of_a_field(filled: Path, run: Run) -> None:
    line = ("scan", filled, "--order-by", "n", "--descending", "--limit", 3, "--json")
    page = run(*line).json
    assert [row["id"] for row in page["rows"]] == ["row-19", "row-18", "row-17"]
    assert [row["id"] for row in run(*line, "--after", page["cursor"]).json["rows"]][0] == "row-16"
    assert run("scan", filled, "--after", page["cursor"]).code == 2


def test_duplicates_are_shown_in_groups(tmp_path: Path, run: Run) -> None:
    rows = make_rows(4)
    copies = [{**rows[0], "id": f"copy-{n}", "document": "a\x1b[2Jcopy"} for n in range(7)]
    store = tmp_path / "s.mrl"
    assert run("import", store, write_jsonl(tmp_path / "r", rows + copies)).code == 0
    done = run("duplicates", store)
    assert done.out.splitlines()[0].startswith("copy-0")
    assert "1.0000  copy-1" in done.out and "and 2 more" in done.out and "\x1b[2J" not in done.out
    assert done.err == "1 group with 7 duplicates\n"
    (group,) = run("duplicates", store, "--json").json["groups"]
    assert group["representative"]["id"] == "copy-0" and len(group["duplicates"]) == 7
    assert run("duplicates", store, "--where", '{"n": 1}', "--json").json == {"groups": []}
    done = run("duplicates", store, "--where", '{"n": 1}')
    assert (done.code, done.out) == (0, "") and "no two rows" in done.err
    assert run("duplicates", store, "--above", "2").code == 2
