"""The commands that read rows: query, get, scan, count."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

import mrlstore
from mrlstore.cli import failures, output
from mrlstore.cli.embedder_options import embedder_options, open_embedder
from mrlstore.cli.options import json_option, namespace_option, store_argument, where_option
from mrlstore.cli.query_vectors import read_vector
from mrlstore.search import group_search as ways
from mrlstore.types import Include, KeywordPlan, Record, Result


@click.command()
@store_argument
@click.option("--id", "row_id", metavar="ID", help="Rows like this one.")
@click.option("--vector", metavar="FILE|JSON", help="The question: a .npy file, or a JSON list of numbers.")
@click.option("--text", help="The question in words; needs --embedder.")
@click.option("--keywords", metavar="WORDS", help='Words of the documents; "two words" together, pars*.')
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
@namespace_option
@click.option("--min-score", type=float, metavar="S", help="Only hits of at least this cosine similarity.")
@click.option("--exact", is_flag=True, help="Score every row on its full vector.")
@click.option("--dim", type=int, metavar="N", help="Exact, by the first N dimensions only.")
@click.option(
    "--target-recall",
    type=float,
    metavar="R",
    help="The share of the true best that is to be found, on average; by default 0.99.",
)
@click.option("--ef", type=int, metavar="N", help="Effort in the graph, instead of the planner's choice.")
@click.option("--shortlist", type=int, metavar="N", help="Rows to re-rank, instead of the planner's choice.")
@click.option("--explain", is_flag=True, help="Show what was done in each segment, and ranks by keywords.")
@json_option
def query(
    store: Path,
    row_id: str | None,
    vector: str | None,
    text: str | None,
    keywords: str | None,
    name: str | None,
    task: str,
    cache: Path | None,
    as_json: bool,
    explain: bool,
    **options: Any,
) -> None:
    """Find the rows nearest to a question.

    The question is another row, by its id, or a vector, or words. With --keywords rows whose documents have
    these words are found too, and both answers become one by reciprocal rank; or they are the whole question.

    \b
    Examples:
      mrlstore query papers.mrl --id paper-17 -k 5
      mrlstore query papers.mrl --vector question.npy --where '{"year": {"$gte": 2020}}'
      mrlstore query papers.mrl --vector '[0.1, 0.7, -0.2]' --exact --json
      mrlstore query docs.mrl --text "how to parse a date" --embedder docs.lsa.npz
      mrlstore query docs.mrl --text "how to parse a date" --embedder gemini
      mrlstore query docs.mrl --keywords 'strptime "time zone" pars*'
      mrlstore query docs.mrl --id datetime.date --keywords timezone --weights 1 0.5 --explain
    """
    question = _question(row_id, vector, text, keywords, name)
    by_vector = row_id is not None or vector is not None or text is not None
    embedder = open_embedder(name, store, task, cache) if name is not None else None
    where, namespace = options.pop("where"), options.pop("namespace")
    started = time.perf_counter()
    with mrlstore.open(store, mode="r", embedder=embedder) as opened:
        if row_id is not None and not opened.get([row_id], namespace=namespace, include=()):
            raise failures.NotThere(f"not there: {row_id}")
        if by_vector:
            ways.warm()  # so that the time shown is the query's, without loading the kernels
        ready = time.perf_counter()
        result = opened.query(
            question,
            id=row_id,
            text=text,
            keywords=keywords,
            where=where,
            namespace=namespace,
            include=("metadata", "document"),
            **options,
        )
        seconds = time.perf_counter() - ready
    if as_json:
        times = {"seconds": seconds, "start_seconds": ready - started}
        output.print_json({"hits": [_plain(hit) for hit in result], "plan": asdict(result.plan), **times})
        return
    out = output.console()
    print_hits(result, out)
    found = output.count_text(len(result), "hit")
    out.print(f"{found} in {seconds * 1000:.1f} ms, after {ready - started:.1f} s to start", style="dim")
    if explain and result.plan.keywords is not None:
        out.print(_rank_table(result.plan.keywords))
    if explain and by_vector:
        out.print(_plan_table(result))


def _question(
    row_id: str | None, vector: str | None, text: str | None, keywords: str | None, embedder: str | None
) -> NDArray[Any] | None:
    given = sum(question is not None for question in (row_id, vector, text))
    if given > 1 or not given and keywords is None:
        raise click.UsageError("give one of --id, --vector and --text, or --keywords, or both")
    if (text is None) != (embedder is None):
        raise click.UsageError("--text and --embedder go together")
    return read_vector(vector) if vector is not None else None


def print_hits(result: Result, out: Console) -> None:
    """Hits for people: score and id in one line, document or metadata in the next."""
    shown = "6.3f" if result.plan.keywords is None else "6.4g"
    for hit in result:
        out.print(
            Text.assemble((f"{hit.score:{shown}}  ", "cyan"), (output.safe_line(hit.id), "bold")),
            soft_wrap=True,
        )
        known = _first_paragraph(hit.document) or _short_json(hit.metadata)
        if known:
            out.print(Text(" " * 8 + known, style="dim"), no_wrap=True, overflow="ellipsis")


def _rank_table(plan: KeywordPlan) -> Table:
    """The ranks of each hit by vector and by keywords."""
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
            Text(output.safe_line(hit.id)),
            *("-" if number is None else f"{number:.4g}" for number in numbers),
        )
    return table


def _plan_table(result: Result) -> Table:
    plan = result.plan
    matching = "" if plan.matching is None else f", {plan.matching:,} rows match the filter"
    expected = "" if plan.expected is None else f", expected recall {plan.expected.recall:.4f}"
    stages = "".join(f", {stage} {seconds * 1000:.2f} ms" for stage, seconds in plan.seconds.items())
    table = Table(
        title=f"generation {plan.generation}, effort {plan.effort}{expected}{matching}{stages}", box=None
    )
    table.title_justify = "left"
    for name in ("segment", "rows", "path", "ef", "shortlist", "visited", "re-ranked"):
        table.add_column(name, justify="left" if name in ("segment", "path") else "right")
    for part in plan.segments:
        numbers = (part.ef, part.shortlist, part.visited, part.reranked)
        table.add_row(part.segment[:12], f"{part.rows:,}", part.path, *(f"{number:,}" for number in numbers))
    return table


@click.command()
@store_argument
@click.argument("ids", nargs=-1)
@where_option
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most so many.")
@namespace_option
@click.option("--vector", "with_vector", is_flag=True, help="Show the vectors too.")
@json_option
def get(
    store: Path,
    ids: tuple[str, ...],
    where: dict[str, Any] | None,
    limit: int | None,
    namespace: str,
    with_vector: bool,
    as_json: bool,
) -> int:
    """Show rows by their ids, or by a filter. Exit code 3 says that some of the ids are not there.

    \b
    Examples:
      mrlstore get papers.mrl paper-17 paper-18
      mrlstore get papers.mrl paper-17 --vector --json
      mrlstore get papers.mrl --where '{"lang": "de"}' --limit 5
    """
    if not ids and not where and limit is None:
        raise click.UsageError("give IDS, a --where that is not empty, or a --limit")
    with mrlstore.open(store, mode="r") as opened:
        include: tuple[Include, ...] = ("metadata", "document")
        if with_vector:
            include += ("vector",)
        records = opened.get(ids or None, where=where, limit=limit, namespace=namespace, include=include)
        there = {record.id for record in opened.get(ids, namespace=namespace, include=())}
    missing = [row_id for row_id in ids if row_id not in there]
    if as_json:
        output.print_json({"rows": [_plain(record) for record in records], "missing": missing})
    else:
        for record in records:
            _print_record(record)
        if missing:
            output.errors().print(f"mrlstore: not there: {', '.join(missing)}", soft_wrap=True)
    return failures.ABSENT if missing else failures.DONE


def _print_record(record: Record) -> None:
    out = output.console()
    out.print(output.safe_line(record.id), style="bold", soft_wrap=True)
    table = output.facts_table()
    for key, value in (record.metadata or {}).items():
        table.add_row(key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    if record.vector is not None:
        head = ", ".join(f"{number:.4g}" for number in record.vector[:6])
        table.add_row("vector", f"[{head}, …] {len(record.vector):,} dims")
    if table.row_count:
        out.print(table)
    if record.document:
        out.print(record.document, soft_wrap=True)
    out.print()


@click.command()
@store_argument
@where_option
@namespace_option
@click.option("--all", "everywhere", is_flag=True, help="In all namespaces.")
@click.option("--prefix", metavar="TEXT", help="Only ids that start with this.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=0), help="At most so many.")
@click.option("--after", metavar="CURSOR", help="Go on behind the cursor that an earlier scan printed.")
@click.option("--vector", "with_vector", is_flag=True, help="Show the vectors too.")
@json_option
def scan(
    store: Path,
    where: dict[str, Any] | None,
    namespace: str,
    everywhere: bool,
    prefix: str | None,
    limit: int,
    after: str | None,
    with_vector: bool,
    as_json: bool,
) -> None:
    """Look through rows in the order of their ids. For all of them in a file, see export.

    \b
    Examples:
      mrlstore scan papers.mrl
      mrlstore scan papers.mrl --prefix paper-1 --where '{"lang": "de"}' --limit 100
      mrlstore scan papers.mrl --all --json
    """
    include: tuple[Include, ...] = (
        ("metadata", "document", "vector") if with_vector else ("metadata", "document")
    )
    with mrlstore.open(store, mode="r") as opened:
        space = None if everywhere else namespace
        found = list(
            opened.scan(where, namespace=space, prefix=prefix, include=include, limit=limit + 1, after=after)
        )
    records, more = found[:limit], len(found) > limit
    cursor = records[-1].cursor if records and more else None
    if as_json:
        output.print_json({"rows": [_plain(record) for record in records], "cursor": cursor})
        return
    for record in records:
        _print_record(record)
    if cursor:
        output.errors().print(f"there are more; go on with --after {cursor}", soft_wrap=True)


@click.command()
@store_argument
@where_option
@namespace_option
@click.option("--all", "everywhere", is_flag=True, help="In all namespaces.")
@json_option
def count(store: Path, where: dict[str, Any] | None, namespace: str, everywhere: bool, as_json: bool) -> None:
    """Count rows, all or those that match a filter.

    \b
    Examples:
      mrlstore count papers.mrl
      mrlstore count papers.mrl --where '{"year": {"$gte": 2020}, "lang": {"$in": ["en", "de"]}}'
    """
    with mrlstore.open(store, mode="r") as opened:
        rows = opened.count(where, namespace=None if everywhere else namespace)
    if as_json:
        output.print_json({"rows": rows})
    else:
        print(rows)


def _plain(row: Any) -> dict[str, Any]:
    """A hit or record as a dict; fields that were not included are left out."""
    names = ("id", "namespace", "score", "metadata", "document", "vector")
    values = {name: getattr(row, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())[:300]


def _short_json(value: Any) -> str:
    return "" if not value else json.dumps(value, ensure_ascii=False)[:300]
