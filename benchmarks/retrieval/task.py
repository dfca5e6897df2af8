"""A retrieval task for MTEB made of the documentation that every Python carries.

The question is the summary line of a docstring, the document that answers it what stands below that line; so
each question has one right document among those of all docstrings. Nobody judged anything: which body belongs
to which summary is known. That makes it a known-item task, and an easy one for words that stand in both.
"""

from __future__ import annotations

import platform
from typing import Any, Final

from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from mrlstore.cli.demo.corpus import standard_library
from mrlstore.embedders.local import words_of

FEWEST_WORDS: Final = 5  # of a question; shorter ones could mean anything
SHORTEST_BODY: Final = 20  # words


class StdlibSummaries(AbsTaskRetrieval):
    """Find the body of a docstring of Python's standard library by its summary line."""

    metadata = TaskMetadata(
        name="StdlibSummaries",
        description="Find the body of a docstring of Python's standard library by its summary line.",
        dataset={"path": "python-standard-library", "revision": platform.python_version()},
        type="Retrieval",
        category="t2t",
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )
    k_values = (1, 3, 5, 10)

    def load_data(self, num_proc: int | None = None, **_: Any) -> None:
        """Read the docstrings; nothing is fetched."""
        if getattr(self, "data_loaded", False):
            return
        corpus, queries = [], []
        for docstring in standard_library():
            summary, body = _parted(docstring.text)
            if summary:
                queries.append({"id": docstring.name, "text": summary})
            corpus.append({"id": docstring.name, "text": body})
        split = {
            "corpus": Dataset.from_list(corpus),
            "queries": Dataset.from_list(queries),
            "relevant_docs": {query["id"]: {query["id"]: 1} for query in queries},
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


def _parted(text: str) -> tuple[str, str]:
    """(summary, body) of a docstring; without a summary that can serve as a question, ("", all of it)."""
    summary, _, body = text.strip().partition("\n\n")
    one_line = "\n" not in summary
    enough = len(set(words_of(summary))) >= FEWEST_WORDS and len(body.split()) >= SHORTEST_BODY
    return (summary, body) if one_line and enough else ("", text)
