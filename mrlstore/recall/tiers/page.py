"""A tier report as files: JSON, CSV, an HTML page, a PNG with plots. Needs matplotlib for the last two.

Colours are those of Okabe and Ito, which people with any kind of colour vision tell apart; every series has a
marker of its own besides.
"""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from mrlstore.errors import InvalidInput
from mrlstore.recall.tiers.figures import GOAL, PROJECTED, Tier, TierFigures

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_EDGE: Final = 0.002  # how far beyond 1 the stretched axis of recall would end
_COLUMNS: Final = (
    "name", "kind", "dim", "shortlist", "ef", "rows", "recall", "low", "high", "ndcg", "p50_ms", "p95_ms",
    "qps_one", "qps_all", "disk_bytes_per_row", "memory_bytes_per_row",
)  # fmt: skip


def as_csv(report: TierFigures) -> str:
    """One line for each tier."""
    text = io.StringIO()
    sizes = [f"{what}_gb_at_{n // 1_000_000}m" for n in PROJECTED for what in ("disk", "memory")]
    writer = csv.writer(text)
    writer.writerow([*_COLUMNS, *sizes])
    for tier in report.tiers:
        projected = [part / 1e9 for pair in report.projected(tier).values() for part in pair]
        writer.writerow([*(getattr(tier, name) for name in _COLUMNS), *(f"{gb:.3f}" for gb in projected)])
    return text.getvalue()


def as_png(report: TierFigures) -> bytes:
    """Three plots side by side: recall by latency, recall by memory, recall by shortlist."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidInput(
            "plots need matplotlib: pip install 'mrlstore[report]', or save as .json or .csv"
        ) from error
    figure = Figure(figsize=(16, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    _by_latency(left, report)
    _by_memory(middle, report)
    _by_shortlist(right, report)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=-(-len(labels) // 2), frameon=False)
    figure.suptitle(
        f"{Path(report.path).name}: {report.rows:,} rows x {report.dim:,} dims, recall@{report.k} over "
        f"{report.queries} {report.source}",
        fontsize=13,
    )
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()


def _prefixes(report: TierFigures) -> list[int]:
    return sorted({tier.dim for tier in report.tiers if tier.kind != "store"})


def _style(report: TierFigures, dim: int) -> dict[str, Any]:
    place = _prefixes(report).index(dim) % len(COLOURS)
    return {"color": COLOURS[place], "marker": MARKERS[place], "markersize": 7}


def _chosen(report: TierFigures, kind: str, dim: int | None = None) -> list[Tier]:
    return [tier for tier in report.tiers if tier.kind == kind and dim in (None, tier.dim)]


def _by_latency(axes: Any, report: TierFigures) -> None:
    for dim in _prefixes(report):
        style = _style(report, dim)
        staged = _chosen(report, "two-stage", dim)
        if staged:
            label = f"{dim:,} dims + re-rank in full"
            axes.plot([t.p50_ms for t in staged], [t.recall for t in staged], label=label, **style)
    for dim in _prefixes(report):
        style = {
            **_style(report, dim),
            "markerfacecolor": "white",
            "markeredgewidth": 1.8,
            "linestyle": "none",
        }
        for tier in _chosen(report, "graph", dim):
            axes.plot([tier.p50_ms], [tier.recall], label=f"{dim:,} dims alone", **style)
    axes.set_xscale("log")
    _plain_ticks(axes)
    axes.set_xlabel(f"p50 latency in ms, one thread, {report.sample:,} rows")
    _finish(axes, report, "Recall against latency (graphs)")


def _by_memory(axes: Any, report: TierFigures) -> None:
    staged: list[Tier] = []
    for dim in _prefixes(report):
        style = _style(report, dim) | {"linestyle": "none"}
        for tier in _chosen(report, "scan", dim):
            place = (tier.disk_bytes_per_row, tier.recall)
            axes.plot(*([value] for value in place), **style, markerfacecolor="white", markeredgewidth=1.8)
            axes.annotate(f"{dim:,} alone", place, xytext=(-9, 0), textcoords="offset points", ha="right",
                          va="center", fontsize=9)  # fmt: skip
        enough = [tier for tier in _chosen(report, "two-stage", dim) if tier.recall >= GOAL]
        for tier in enough[:1]:
            axes.plot([tier.memory_bytes_per_row], [tier.recall], **style)
            staged.append(tier)
    line = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.8, "shrinkB": 4}
    for number, tier in enumerate(sorted(staged, key=lambda tier: -tier.recall)):
        axes.annotate(f"{tier.dim:,} + re-rank of {tier.shortlist}", (tier.memory_bytes_per_row, tier.recall),
                      xytext=(48, 34 - 20 * number), textcoords="offset points", fontsize=9, va="center",
                      arrowprops=line)  # fmt: skip
    axes.set_xscale("log")
    _plain_ticks(axes)
    axes.set_xlabel("bytes per row in memory")
    axes.margins(x=0.18)
    _finish(axes, report, "Recall against bytes (hollow: scan of a prefix alone)")


def _by_shortlist(axes: Any, report: TierFigures) -> None:
    for dim, curve in report.curves.items():
        axes.plot([s for s, _ in curve], [recall for _, recall in curve], **_style(report, dim))
    axes.set_xscale("log")
    _plain_ticks(axes)
    axes.set_xlabel("shortlist: rows re-ranked in full")
    _finish(axes, report, "Shortlist length against recall (exact ranks by prefix)")


def _stretch(recall: Any) -> Any:
    return -np.log10(np.maximum(1 + _EDGE - np.asarray(recall, dtype=float), 1e-6))


def _shrink(place: Any) -> Any:
    return 1 + _EDGE - 10.0 ** -np.asarray(place, dtype=float)


def _plain_ticks(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _finish(axes: Any, report: TierFigures, title: str) -> None:
    """Draw the recall axis so that 0.99 and 0.999 stand as far apart as 0.9 and 0.99 do."""
    axes.axhline(GOAL, color="#555555", linewidth=1, linestyle="--")
    axes.set_yscale("function", functions=(_stretch, _shrink))
    lowest = min(min(tier.recall for tier in report.tiers), 0.9)
    floor = max(0.0, lowest - 0.3 * (1 - lowest))
    ticks = [
        tick for tick in (0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1) if tick >= floor
    ]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(floor, 1 + 0.0004)
    axes.minorticks_off()
    axes.set_ylabel(f"recall@{report.k} against all {report.dim:,} dims")
    axes.set_title(title, fontsize=11)
    axes.grid(True, which="major", alpha=0.3)


def as_html(report: TierFigures) -> str:
    """A page that stands alone: recommendation, plots, table, strata, how it was measured."""
    image = base64.b64encode(as_png(report)).decode()
    warnings = "".join(f"<p class='warning'>{html.escape(words)}</p>" for words in report.warnings)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Tiers of {html.escape(Path(report.path).name)}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a }}
body {{ margin: 2rem auto; max-width: 76rem; padding: 0 1rem }}
table {{ border-collapse: collapse; font-size: 14px; width: 100% }}
th, td {{ padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }}
th:first-child, td:first-child {{ text-align: left }}
tr.good td {{ background: #e8f4ee }}
.lead {{ font-size: 1.25rem; border-left: .4rem solid #0072B2; padding-left: 1rem }}
.warning {{ border-left: .4rem solid #D55E00; padding-left: 1rem }}
.wide {{ overflow-x: auto }} img {{ width: 100%; min-width: 64rem }} small {{ color: #555 }}
</style></head><body>
<h1>Tiers of {html.escape(Path(report.path).name)}</h1>
<p class="lead">{html.escape(report.recommendation)}</p>{warnings}
<div class="wide"><img alt="recall against latency, bytes and shortlist"
src="data:image/png;base64,{image}"></div>
<h2>All tiers</h2><div class="wide">{_table(report)}</div>
<p><small>Shaded: recall of {GOAL:g} or more. Projected sizes are bytes per row times rows.</small></p>
{_strata(report)}
<h2>How it was measured</h2>
<p>{report.rows:,} rows of {report.dim:,} dims; {report.queries} {report.source}; recall@{report.k} is the
share of the exact best {report.k} at full dimension, with 95% intervals that allow for misses coming in
clusters. Scans are ranked over all rows; graphs and latencies are those of a sample of {report.sample:,}
rows, each tier in a graph of its own, on {report.threads} threads where all cores are meant. "This store" is
its own query method, as it stands. Measured in {report.seconds:.0f} seconds.</p>
</body></html>
"""


def _table(report: TierFigures) -> str:
    judged = any(tier.ndcg is not None for tier in report.tiers)
    heads = ["tier", f"recall@{report.k}", "95% interval"]
    heads += [f"nDCG@{report.k}"] if judged else []
    heads += [
        "p50 ms",
        "p95 ms",
        "QPS, 1 core",
        f"QPS, {report.threads} threads",
        "disk B/row",
        "memory B/row",
    ]
    heads += [f"{n // 1_000_000}M rows: disk / memory" for n in PROJECTED]
    lines = []
    for tier in report.tiers:
        cells = [html.escape(tier.name), f"{tier.recall:.4f}", f"{tier.low:.4f} to {tier.high:.4f}"]
        cells += [_figure(tier.ndcg, ".4f")] if judged else []
        cells += [
            f"{tier.p50_ms:.3f}",
            f"{tier.p95_ms:.3f}",
            f"{tier.qps_one:,.0f}",
            _figure(tier.qps_all, ",.0f"),
        ]
        cells += [f"{tier.disk_bytes_per_row:,.0f}", f"{tier.memory_bytes_per_row:,.0f}"]
        cells += [
            f"{size_text(disk)} / {size_text(memory)}" for disk, memory in report.projected(tier).values()
        ]
        lines.append(_row(cells, " class='good'" if tier.recall >= GOAL else ""))
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{''.join(lines)}</table>"


def _strata(report: TierFigures) -> str:
    if not report.strata:
        return ""
    lines = [
        _row(
            [html.escape(s.value), s.name, f"{s.queries}", f"{s.recall:.4f}", f"{s.low:.4f} to {s.high:.4f}"]
        )
        for s in report.strata
    ]
    heads = "".join(f"<th>{head}</th>" for head in ("stratum", "tier", "queries", "recall", "95% interval"))
    return f"<h2>By stratum</h2><div class='wide'><table><tr>{heads}</tr>{''.join(lines)}</table></div>"


def _row(cells: Sequence[str], how: str = "") -> str:
    return f"<tr{how}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _figure(value: float | None, how: str) -> str:
    return "–" if value is None else format(value, how)


def size_text(count: float) -> str:
    """A number of bytes as people read it, in powers of 1,000."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if count >= 100 or unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
