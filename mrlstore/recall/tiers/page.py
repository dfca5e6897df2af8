"""A tier report as a CSV file and as an HTML page that stands alone, which needs matplotlib."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mrlstore.recall.tiers.figures import GOAL, PROJECTED, TierFigures
from mrlstore.recall.tiers.plots import Plot, each_plot

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


def as_html(report: TierFigures) -> str:
    """A page that stands alone: the decision, plots, all tiers, strata, how it was measured."""
    name = html.escape(Path(report.path).name)
    warnings = "".join(f"<p class='warning'>{html.escape(words)}</p>" for words in report.warnings)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tiers of {name}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a }}
body {{ margin: 2rem auto; max-width: 76rem; padding: 0 1rem }}
table {{ border-collapse: collapse; font-size: 14px; width: 100% }}
th, td {{ padding: .3rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }}
th:first-child, td:first-child {{ text-align: left }}
tr.good td {{ background: #e8f4ee }}
.summary td:nth-child(-n+2), .summary th:nth-child(-n+2) {{ text-align: left; white-space: normal }}
.lead {{ font-size: 1.25rem; border-left: .4rem solid #0072B2; padding-left: 1rem }}
.warning {{ border-left: .4rem solid #D55E00; padding-left: 1rem }}
pre {{ background: #f4f4f4; padding: .6rem 1rem; overflow-x: auto }}
.plots {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)) }}
.wide {{ overflow-x: auto }} img {{ width: 100% }} small {{ color: #555 }}
@media (max-width: 40rem) {{ th, td {{ padding: .3rem }} }}
</style></head><body>
<h1>Tiers of {name}</h1>
<div class="wide">{_summary(report)}</div>
<p class="lead">{html.escape(report.recommendation)}</p>{_command(report)}{warnings}
<div class="plots">{"".join(map(_image, each_plot(report)))}</div>
<h2>All tiers</h2><div class="wide">{_table(report)}</div>
<p><small>Shaded, and above the dashed line: recall of {GOAL:g} or more. Projected sizes are bytes per row
times rows.</small></p>
{_strata(report)}
<h2>How it was measured</h2>
<p>{report.rows:,} rows of {report.dim:,} dims; {report.queries} {report.source}; recall@{report.k} is the
share of the exact best {report.k} at full dimension, with 95% intervals that allow for misses coming in
clusters. Scans are ranked over all rows; graphs and latencies are those of a sample of {report.sample:,}
rows, each tier in a graph of its own, on {report.threads} threads where all cores are meant. "The store as it
is" is measured in the same way, by its own prefix; "this store" is its query method, everything around the
search included. Measured in {report.seconds:.0f} seconds.</p>
</body></html>
"""


def _image(plot: Plot) -> str:
    image = base64.b64encode(plot.png).decode()
    return f'<img alt="{html.escape(plot.words)}" src="data:image/png;base64,{image}">'


def _summary(report: TierFigures) -> str:
    heads = ("", "tier", f"recall@{report.k}", "time", "memory")
    lines = [
        _row(
            [row.what, row.tier, f"{row.recall:.3f}", f"{row.time:.2f}", f"{row.memory:.2f}"],
            " class='good'" if row.reaches_goal else "",
        )
        for row in report.summary
    ]
    titles = "".join(f"<th>{head}</th>" for head in heads)
    return (
        f"<table class='summary'><tr>{titles}</tr>{''.join(lines)}</table>"
        "<p><small>Time of a query and memory of a row, as multiples of the store as it is.</small></p>"
    )


def _command(report: TierFigures) -> str:
    command = report.command(Path(report.path).name or "STORE")
    return f"<pre>{html.escape(command)}</pre>" if command else ""


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
        lines.append(_row(cells, " class='good'" if tier.reaches_goal else ""))
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
