"""The search backend against mteb's own search, and the retrieval task of benchmarks/retrieval."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages that mteb imports
    mteb = pytest.importorskip("mteb", reason="needs the environment of make test-integrations")
    import torch
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import SearchEncoderWrapper
    from mteb.models.search_encoder_index import IndexEncoderSearchProtocol
    from mteb.types import PromptType

from benchmarks.retrieval.task import StdlibSummaries
from mrlstore import InvalidInput
from mrlstore.cli.demo.corpus import standard_library
from mrlstore.embedders.local import LocalEmbedder
from mrlstore.integrations.mteb import EmbedderModel, MrlSearchBackend
from tests.integrations.pages import run_page
from tests.nested import nested

pytestmark = pytest.mark.filterwarnings("ignore")  # of mteb and the packages below it

DIM, ROWS, QUERIES = 64, 3_000, 20
VECTORS = nested(ROWS + QUERIES, DIM, seed=3)


class Known:
    """An embedder whose texts are numbers of rows."""

    fingerprint = "known"

    def embed_documents(self, contents: Any) -> Any:
        return VECTORS[[int(text) for text in contents]]

    def embed_query(self, content: Any) -> Any:
        return VECTORS[int(content)]


def made_task(candidates: bool) -> Any:
    """Documents 0 to ROWS, questions behind them; the best five by cosine are right, in part."""
    scores = VECTORS[ROWS:] @ VECTORS[:ROWS].T / np.linalg.norm(VECTORS[:ROWS], axis=1)
    best = np.argsort(-scores, axis=1)
    rng = np.random.default_rng(1)
    split = {
        "corpus": Dataset.from_list([{"id": f"d{row}", "text": str(row)} for row in range(ROWS)]),
        "queries": Dataset.from_list([{"id": f"q{n}", "text": str(ROWS + n)} for n in range(QUERIES)]),
        "relevant_docs": {
            f"q{n}": {f"d{row}": 1 for row in rng.choice(best[n, :12], 5, replace=False)}
            for n in range(QUERIES)
        },
        "top_ranked": {f"q{n}": [f"d{row}" for row in rng.permutation(best[n, :40])] for n in range(QUERIES)}
        if candidates
        else None,
    }

    class Made(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="Made",
            description="made",
            dataset={"path": "made", "revision": "1"},
            type="Reranking" if candidates else "Retrieval",
            category="t2t",
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )
        k_values = (1, 5, 10)

        def load_data(self, num_proc: int | None = None, **_: Any) -> None:
            self.dataset, self.data_loaded = {"default": {"test": dict(split)}}, True

    return Made()


def scores_of(task: Any, backend: Any) -> dict[str, float]:
    model = SearchEncoderWrapper(EmbedderModel(Known(), "tests/known"), index_backend=backend)
    result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
    [scores] = result.task_results[0].scores["test"]
    return {name: scores[name] for name in ("ndcg_at_10", "recall_at_5", "mrr_at_10", "map_at_10")}


@pytest.mark.parametrize("candidates", [False, True], ids=["retrieval", "reranking"])
def test_scores_are_those_of_mtebs_own_search(candidates: bool) -> None:
    expected = scores_of(made_task(candidates), None)
    assert 0.3 < expected["ndcg_at_10"] < 1, "the task tells good answers from bad ones"
    assert scores_of(made_task(candidates), MrlSearchBackend(exact=True)) == pytest.approx(expected, abs=1e-3)
    near = scores_of(made_task(candidates), MrlSearchBackend(prefix_dim=16))
    assert near["ndcg_at_10"] == pytest.approx(expected["ndcg_at_10"], abs=0.02)
    cut = scores_of(made_task(candidates), MrlSearchBackend(dim=4))
    assert cut["ndcg_at_10"] < expected["ndcg_at_10"] - 0.05, "four dimensions are worse"


def test_a_text_without_a_known_word_is_not_found_and_finds_nothing() -> None:
    """One such text used to stop a whole task."""
    words = ["apple", "river", "stone", "cloud", "tiger", "metal", "paper", "house"]
    texts = [f"{word} {word} of a {other}" for word, other in zip(words, reversed(words), strict=True)]
    model = EmbedderModel(LocalEmbedder.fit(texts))
    documents = model.encode([{"text": [*texts[:4], "12 34"]}, {"text": ["?!"]}, {"text": texts[4:]}])
    assert documents.shape[0] == 10 and not documents[4:6].any()
    queries = model.encode([{"text": ["river", "56"]}], prompt_type=PromptType.query)
    backend = MrlSearchBackend(exact=True)
    names = [f"d{n}" for n in range(10)]
    backend.add_documents(documents, names)
    scores, positions = backend.search(queries, 20, model.similarity)
    assert positions[0][0] == 1 and {4, 5}.isdisjoint(positions[0]) and len(positions[0]) == 8
    assert (scores[1], positions[1]) == ([], [])
    ranked = {"a": ["d5", "d1"], "b": names}
    scores, positions = backend.search(queries, 20, model.similarity, ranked, {0: "a", 1: "b"})
    assert positions == [[1], []]
    backend.clear()


def test_the_backend_is_what_the_protocol_asks_for(tmp_path: Path) -> None:
    backend: IndexEncoderSearchProtocol = MrlSearchBackend(folder=tmp_path, exact=True)
    cosine = EmbedderModel(Known()).similarity
    for start in (0, 100):
        rows = torch.from_numpy(VECTORS[start : start + 100])
        backend.add_documents(rows, [f"d{n}" for n in range(start, start + 100)])
    scores, places = backend.search(torch.from_numpy(VECTORS[:3]), 300, cosine)
    assert [found[0] for found in places] == [0, 1, 2] and [len(found) for found in places] == [200] * 3
    assert scores[0][0] == pytest.approx(1, abs=1e-3) and scores[0] == sorted(scores[0], reverse=True)
    ranked = {"q": ["d150", "d7"], "none": []}
    scores, places = backend.search(VECTORS[[7, 8]], 5, cosine, ranked, {0: "q", 1: "none"})
    assert places == [[1, 0], []] and scores[1] == []
    assert list(tmp_path.iterdir()), "the documents are on disk"
    backend.clear()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInput, match="no documents"):
        backend.search(VECTORS[:1], 1, cosine)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    backend = MrlSearchBackend(folder=tmp_path)
    with pytest.raises(InvalidInput, match="1 embeddings for 2"):
        backend.add_documents(VECTORS[:1], ["a", "b"])
    with pytest.raises(InvalidInput, match="twice"):
        backend.add_documents(VECTORS[:2], ["a", "a"])
    with pytest.raises(InvalidInput, match="cosine"):
        backend.search(5 * VECTORS[:4], 1, lambda a, b: torch.from_numpy(a @ b.T))
    with pytest.raises(InvalidInput, match="shape"):
        backend.search(VECTORS[0], 1, EmbedderModel(Known()).similarity)
    backend.clear()


def test_the_task_of_the_benchmark_holds_what_it_says() -> None:
    task = StdlibSummaries()
    task.load_data()
    split = task.dataset["default"]["test"]
    docstrings = {docstring.name: docstring.text for docstring in standard_library()}
    texts = dict(zip(split["corpus"]["id"], split["corpus"]["text"], strict=True))
    assert len(texts) == len(split["corpus"]) > 2_000 and len(split["queries"]) > 500
    for query in split["queries"]:
        assert split["relevant_docs"][query["id"]] == {query["id"]: 1}
        whole = docstrings[query["id"]].strip()
        assert whole == f"{query['text']}\n\n{texts[query['id']]}", "each line is in one of the two"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page("mteb", tmp_path, monkeypatch)
