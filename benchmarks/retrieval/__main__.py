"""nDCG@10 by tier on a retrieval task, run by MTEB, without network.

    make retrieval
    python -m benchmarks.retrieval --out retrieval.json

The embedder is the local one (latent semantic analysis), fitted on the documents and not on the questions.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before mteb is imported: nothing is to be fetched

import datasets
import mteb
import numpy as np
from mteb.models import SearchEncoderWrapper

from benchmarks.retrieval.task import StdlibSummaries
from mrlstore.embedders.local import LocalEmbedder
from mrlstore.integrations.mteb import EmbedderModel, MrlSearchBackend

DIM: Final = 3072
TIERS: Final[dict[str, dict[str, Any]]] = {
    "256 dims alone": {"dim": 256},
    "512 dims alone": {"dim": 512},
    "768 dims alone": {"dim": 768},
    "1,536 dims alone": {"dim": 1536},
    "two-stage, prefix 256": {"prefix_dim": 256},
    "two-stage, prefix 512": {"prefix_dim": 512},
    "two-stage, prefix 768 (default)": {"prefix_dim": 768},
    "all dims": {"exact": True},
}
SCORES: Final = ("ndcg_at_10", "recall_at_10", "mrr_at_10")


class Remembering(EmbedderModel):
    """Embeds the documents and the questions once, for all tiers."""

    def __init__(self, embedder: LocalEmbedder) -> None:
        super().__init__(embedder, "mrlstore/local-lsa")
        self.kept: dict[Any, np.ndarray[Any, Any]] = {}

    def encode(self, inputs: Any, *, prompt_type: Any = None, **options: Any) -> Any:
        """Embed, or give what was embedded before."""
        if prompt_type not in self.kept:
            self.kept[prompt_type] = super().encode(inputs, prompt_type=prompt_type, **options)
        return self.kept[prompt_type]


def measure(task: StdlibSummaries, model: Remembering, tier: dict[str, Any]) -> dict[str, float]:
    """The scores of one tier."""
    search = SearchEncoderWrapper(model, index_backend=MrlSearchBackend(**tier))
    result = mteb.evaluate(
        search,
        task,
        cache=None,
        co2_tracker=False,
        show_progress_bar=False,
        encode_kwargs={"batch_size": 256},
    )
    [scores] = result.task_results[0].scores["test"]
    return {name: float(scores[name]) for name in SCORES}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    task = StdlibSummaries()
    task.load_data()
    split = task.dataset["default"]["test"]
    documents = split["corpus"]["text"]
    embedder = LocalEmbedder.fit(list(documents), dim=DIM)
    print(f"{len(documents):,} documents, {len(split['queries']):,} questions, {embedder.dim:,} dims")
    model = Remembering(embedder)
    figures = {}
    print(f"{'tier':34}{'nDCG@10':>9}{'recall@10':>11}{'MRR@10':>9}")
    for name, tier in TIERS.items():
        figures[name] = measure(task, model, tier)
        ndcg, recall, mrr = figures[name].values()
        print(f"{name:34}{ndcg:9.4f}{recall:11.4f}{mrr:9.4f}", flush=True)
    if given.out:
        given.out.write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
