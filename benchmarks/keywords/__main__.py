"""Measure on judged questions what vectors, BM25 and both together find: `python -m benchmarks.keywords`.

The corpus is the demo's: the docstrings of the standard library, each with its name, embedded by latent
semantic analysis. Prints nDCG@10, recall@10 and MRR@10, over all questions and by their kind.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import mrlstore
from benchmarks.keywords.judged import JUDGED
from mrlstore.cli.demo.corpus import standard_library
from mrlstore.embedders.local import LocalEmbedder
from mrlstore.errors import EmbedError

K = 10
Ask = Callable[[str], list[str]]
Measured = tuple[float, float, float]  # nDCG@10, recall@10, MRR@10


def judge(found: Sequence[str], relevant: set[str]) -> Measured:
    """How good an answer is; every relevant row counts the same."""
    gains = [1 / math.log2(rank + 1) for rank, name in enumerate(found[:K], 1) if name in relevant]
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(relevant), K) + 1))
    first = next((1 / rank for rank, name in enumerate(found[:K], 1) if name in relevant), 0.0)
    return sum(gains) / best, len(gains) / min(len(relevant), K), first


def fill(folder: Path, tokenizer: str) -> tuple[mrlstore.Store, LocalEmbedder]:
    """A store of the demo's corpus."""
    docstrings = standard_library()
    texts = [f"{each.name}\n{each.text}" for each in docstrings]
    embedder = LocalEmbedder.fit(texts, dim=3072)
    store = mrlstore.open(folder / "stdlib.mrl", auto_maintain=False, tokenizer=tokenizer)  # type: ignore[arg-type]
    names = [each.name for each in docstrings]
    store.upsert(names, embedder.embed_documents(texts), documents=texts)
    store.optimize()
    return store, embedder


def ways(store: mrlstore.Store, embedder: LocalEmbedder, weights: list[float]) -> dict[str, Ask]:
    """The ways to ask; a question without a word that the embedder knows has no vector."""

    def by_vector(question: str) -> list[str]:
        try:
            return store.query(embedder.embed_query(question), K, include=()).ids
        except EmbedError:
            return []

    def by_words(question: str) -> list[str]:
        return store.query(keywords=question, k=K, include=()).ids

    def hybrid(question: str, weight: float) -> list[str]:
        try:
            vector = embedder.embed_query(question)
        except EmbedError:
            return by_words(question)
        return store.query(vector, K, keywords=question, weights=(1, weight), include=()).ids

    fused = {
        f"hybrid, weights 1 and {weight:g}": lambda question, weight=weight: hybrid(question, weight)
        for weight in weights
    }
    return {"vectors alone": by_vector, "BM25 alone": by_words, **fused}


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", default="unicode61", choices=("unicode61", "porter", "trigram"))
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0], help="of the keywords in hybrid")
    parser.add_argument("--misses", action="store_true", help="tell what each way does not find")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store, embedder = fill(Path(folder), arguments.tokenizer)
        with store:
            report(store, ways(store, embedder, arguments.weights), misses=arguments.misses)


def report(store: mrlstore.Store, asked: dict[str, Ask], *, misses: bool) -> None:
    """Ask all questions in all ways."""
    known = {record.id for record in store.scan(include=())}
    questions = [(kind, text, set(names) & known) for kind, text, names in JUDGED]
    questions = [question for question in questions if question[2]]
    kinds = sorted({kind for kind, _, _ in questions})
    version = ".".join(map(str, sys.version_info[:2]))
    print(f"{len(known):,} docstrings of Python {version}, {len(questions)} of {len(JUDGED)} questions\n")
    print("| | nDCG@10 | recall@10 | MRR@10 | nDCG@10 of: " + " | ".join(kinds) + " |")
    print("|---|" + "---|" * (3 + len(kinds)))
    for name, ask in asked.items():
        judged = [(kind, judge(ask(text), relevant)) for kind, text, relevant in questions]
        overall = [sum(each[i] for _, each in judged) / len(judged) for i in range(3)]
        by_kind = [[each[0] for one, each in judged if one == kind] for kind in kinds]
        cells = [f"{value:.3f}" for value in [*overall, *(sum(v) / len(v) for v in by_kind)]]
        print(f"| {name} | " + " | ".join(cells) + " |")
        if misses:
            for (_, each), (_, text, relevant) in zip(judged, questions, strict=True):
                if each[1] == 0:
                    print(f"    misses {text!r}: {sorted(relevant)}")


if __name__ == "__main__":
    main()
