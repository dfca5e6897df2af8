"""The command that asks: query."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from numpy.typing import NDArray

import mrlstore
from mrlstore.cli import failures, output
from mrlstore.cli.embedder_options import embedder_for_questions, embedder_options
from mrlstore.cli.options import json_option, picking_options, store_argument, where_option
from mrlstore.cli.output import plain_row, print_line
from mrlstore.cli.query_vectors import read_vector
from mrlstore.cli.safe_text import safe_line
from mrlstore.embedders.protocol import Embedder
from mrlstore.errors import InvalidInput
from mrlstore.kernels import load
from mrlstore.search.passages import Passage, passages_of
from mrlstore.types import Hit, KeywordPlan, Result

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@store_argument
@click.argument("words", nargs=-1, metavar="[QUESTION]")
@click.option("--id", "row_id", metavar="ID", help="Rows like this one.")
@click.option("--vector", metavar="FILE|JSON", help="The question: a .npy file, or a JSON list of numbers.")
@click.option(
    "--keywords", metavar="WORDS", help='Words to look for; "two words" together, pars* and what follows.'
)
@click.option(
    "--weights",
    nargs=2,
    type=float,
    metavar="V K",
    help="How much the vector and the keywords count; by default 1 1.",
)
@embedder_options
@click.option("-k", default=10, show_default=True, metavar="N", help="How many hits.")
@where_option
@click.option(
    "-n",
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="The namespace, the unnamed one by default; several may be given.",
)
@click.option("--all", "everywhere", is_flag=True, help="In all namespaces.")
@click.option("--min-score", type=float, metavar="S", help="Only hits of at least this cosine similarity.")
@click.option("--exact", is_flag=True, help="Score every row on its full vector.")
@click.option("--dim", type=int, metavar="N", help="Exact, by the first N dimensions only.")
@click.option(
    "--target-recall",
    type=float,
    metavar="R",
    help="The share of the exact answer to find, on average; by default 0.99.",
)
@click.option("--ef", type=int, metavar="N", help="Effort in the graph, instead of the planner's choice.")
@click.option("--shortlist", type=int, metavar="N", help="Rows to re-rank, instead of the planner's choice.")
@picking_options
@click.option("--explain", is_flag=True, help="Show what was done in each segment, and ranks by keywords.")
@json_option
def query(
    store: Path,
    words: tuple[str, ...],
    row_id: str | None,
    vector: str | None,
    keywords: str | None,
    name: str | None,
    task: str,
    cache: Path | None,
    as_json: bool,
    explain: bool,
    **options: Any,
) -> None:
    """Find the rows nearest to a question.

    QUESTION is a text, which is turned into a vector by the embedder that filled the store. Instead you can
    give the id of a row, or a vector. --keywords also finds rows whose documents have these words, and both
    lists are combined by reciprocal rank; keywords alone are a question too.

    \b
    Examples:
      mrlstore query notes.mrl "why are there tides"
      mrlstore query notes.mrl "why are there tides" --keywords moon --where '{"lang": "en"}'
      mrlstore query notes.mrl --keywords 'strptime "time zone" pars*'
      mrlstore query papers.mrl --id paper-17 -k 5
      mrlstore query papers.mrl --vector question.npy --where '{"year": {"$gte": 2020}}'
      mrlstore query papers.mrl --vector '[0.1, 0.7, -0.2]' --exact --json
      mrlstore query papers.mrl "how to parse a date" --embedder other-model.lsa.npz
      mrlstore query docs.mrl --id datetime.date --keywords timezone --weights 1 0.5 --explain
      mrlstore query papers.mrl --like paper-17 --like paper-40 --unlike paper-3 --offset 10
      mrlstore query notes.mrl "why are there tides" --group-by source --group-size 2
      mrlstore query notes.mrl "why are there tides" --diversity 0.5
    """
    question = " ".join(words)
    like = options["positive"] is not None
    _check_question(question, row_id, vector, keywords, name, like=like)
    given = read_vector(vector) if vector is not None else None
    where, everywhere, spaces = (options.pop(name) for name in ("where", "everywhere", "namespaces"))
    namespace = None if everywhere else list(spaces or ("",))
    started = time.perf_counter()
    with mrlstore.open(store, mode="r") as opened:
        if row_id is not None and not _is_there(opened, row_id, namespace):
            raise failures.NotThere(f"no row has the id {row_id}")
        if question:
            embedder = embedder_for_questions(name, opened, store, task, cache)
            given = _embedded(embedder, question, store)
        by_vector = row_id is not None or given is not None or like
        if by_vector:
            load.warm()  # so that the time shown is the query's, without loading the kernels
        ready = time.perf_counter()
        result = opened.query(
            given,
            id=row_id,
            keywords=keywords,
            where=where,
            namespace=namespace,
            include=("metadata", "document"),
            **options,
        )
        seconds = time.perf_counter() - ready
        passages = passages_of(result, opened.settings.tokenizer)
    if as_json:
        hits = [_plain_hit(hit, passage) for hit, passage in zip(result, passages, strict=True)]
        times = {"seconds": seconds, "start_seconds": ready - started}
        groups = [{"value": group.value, "ids": [hit.id for hit in group.hits]} for group in result.groups]
        found = {"hits": hits, **({"groups": groups} if options["group_by"] is not None else {})}
        output.print_json({**found, "plan": asdict(result.plan), **times})
        return
    print_hits(result, sys.stdout, passages)
    counted = output.count_text(len(result), "hit")
    print_line((f"{counted} in {seconds * 1000:.1f} ms, after {ready - started:.1f} s to start", "dim"))
    if explain:
        _explain(result, by_vector)


def _is_there(store: mrlstore.Store, row_id: str, namespace: list[str] | None) -> bool:
    """Whether a row is in the only namespace; an id of one among several is refused by the query."""
    if namespace is None or len(namespace) > 1:
        return True
    return bool(store.get([row_id], namespace=namespace[0], include=()))


def _check_question(
    question: str,
    row_id: str | None,
    vector: str | None,
    keywords: str | None,
    embedder: str | None,
    *,
    like: bool,
) -> None:
    given = sum((bool(question), row_id is not None, vector is not None, like))
    if given > 1 or not given and keywords is None:
        raise click.UsageError(
            'give one question, as words ("why are there tides"), --id, --like or --vector, or --keywords, '
            "or both"
        )
    if embedder is not None and not question:
        raise click.UsageError("--embedder goes with a question in words")


def _embedded(embedder: Embedder, question: str, store: Path) -> NDArray[Any]:
    """The question's vector. InvalidInput if a local embedder knows none of its words."""
    from mrlstore.embedders.local import LocalEmbedder, NoKnownWord

    try:
        return embedder.embed_query(question)
    except NoKnownWord as error:
        known = (
            f" It learned its words from {embedder.texts:,} texts."
            if isinstance(embedder, LocalEmbedder)
            else ""
        )
        raise InvalidInput(
            f"the local embedder knows no word of {question!r}.{known} To look for words as they are: "
            f"mrlstore query {shlex.quote(str(store))} --keywords {shlex.quote(question)}"
        ) from error


def print_hits(result: Result, out: IO[str], passages: list[Passage | None] | None = None) -> None:
    """Hits for people: score and id in one line; in the next what matched, the document or the metadata."""
    shown = "6.3f" if result.plan.keywords is None else "6.4g"
    if result.groups:
        keys = [(hit.namespace, hit.id) for hit in result]
        by_key = dict(zip(keys, passages or [None] * len(result), strict=True))
        for group in result.groups:
            value = group.value if isinstance(group.value, str) else json.dumps(group.value)
            print_line((safe_line(value), "cyan"), file=out)
            _print_each(group.hits, [by_key[hit.namespace, hit.id] for hit in group.hits], shown, out)
        return
    _print_each(result, passages or [None] * len(result), shown, out)


def _print_each(hits: Sequence[Hit], passages: list[Passage | None], shown: str, out: IO[str]) -> None:
    for hit, passage in zip(hits, passages, strict=True):
        score = f"{hit.score:{shown}}"
        score = score if float(score) else score.replace("-", " ")  # no minus in front of a rounded zero
        space = (f"  in {safe_line(hit.namespace)}", "dim") if hit.namespace else ""
        print_line((f"{score}  ", "cyan"), (safe_line(hit.id), "bold"), space, file=out)
        if passage is not None:
            pieces = [(piece.text, "bold" if piece.matched else "dim") for piece in passage]
            print_line(" " * 8, *pieces, file=out)
            continue
        known = _first_paragraph(hit.document) or _short_json(hit.metadata)
        if known:
            print_line(" " * 8, (known, "dim"), file=out, clip=True)


def _plain_hit(hit: Hit, passage: Passage | None) -> dict[str, Any]:
    plain = plain_row(hit)
    return plain if passage is None else plain | {"passage": "".join(piece.text for piece in passage)}


def _explain(result: Result, by_vector: bool) -> None:
    out = output.console()
    if result.plan.keywords is not None:
        out.print(_rank_table(result.plan.keywords))
    if by_vector:
        out.print(_plan_table(result))


def _rank_table(plan: KeywordPlan) -> Table:
    """The ranks of each hit by vector and by keywords."""
    from rich.table import Table
    from rich.text import Text

    title = f"keywords: {', '.join(plan.searched) or 'none'}"
    if plan.ignored:
        title += f"; left out because more than half of the documents have them: {', '.join(plan.ignored)}"
    if plan.weights is not None:
        title += f"; weights {plan.weights[0]:g} and {plan.weights[1]:g}, the best {plan.depth} of both"
    table = Table(title=Text(title), box=None, title_justify="left")
    table.add_column("hit")
    for name in ("score", "by vector", "cosine", "by keywords", "BM25"):
        table.add_column(name, justify="right")
    for hit in plan.hits:
        numbers = (hit.score, hit.vector_rank, hit.cosine, hit.keyword_rank, hit.bm25)
        table.add_row(
            Text(safe_line(hit.id)),
            *("-" if number is None else f"{number:.4g}" for number in numbers),
        )
    return table


def _plan_table(result: Result) -> Table:
    from rich.table import Table

    plan = result.plan
    matching = "" if plan.matching is None else f", {plan.matching:,} rows match the filter"
    expected = "" if plan.expected is None else f", expected recall {plan.expected.recall:.4f}"
    stages = "".join(f", {stage} {seconds * 1000:.2f} ms" for stage, seconds in plan.seconds.items())
    table = Table(
        title=f"generation {plan.generation}, effort {plan.effort}{expected}{matching}{stages}", box=None
    )
    table.title_justify = "left"
    for name in ("segment", "rows", "path", "ef", "shortlist", "visited", "re-ranked", "copies"):
        table.add_column(name, justify="left" if name in ("segment", "path") else "right")
    for part in plan.segments:
        numbers = (part.ef, part.shortlist, part.visited, part.reranked, part.copies)
        table.add_row(part.segment[:12], f"{part.rows:,}", part.path, *(f"{number:,}" for number in numbers))
    return table


def _first_paragraph(text: str | None) -> str:
    """In one line; a heading alone is followed by the next paragraph."""
    paragraphs = (text or "").strip().split("\n\n")
    wanted = 2 if paragraphs[0].startswith("#") else 1
    return " ".join(" ".join(paragraphs[:wanted]).split())[:300]


def _short_json(value: Any) -> str:
    return "" if not value else json.dumps(value, ensure_ascii=False)[:300]
