"""From measurements to the table and the plot of docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

TARGETS = (0.90, 0.95, 0.99, 0.999)
BEGIN, END = "<!-- compare: begin -->", "<!-- compare: end -->"


def qps(points: list[dict[str, Any]], target: float) -> float | None:
    """Queries per second of the cheapest effort that reaches a recall."""
    reached = [1e6 / point["us"] for point in points if point["recall"] >= target]
    return max(reached) if reached else None


def frontier(points: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """(recall, queries per second) of the efforts that no cheaper one equals, by rising recall."""
    kept: list[tuple[float, float]] = []
    for recall, rate in sorted(((p["recall"], 1e6 / p["us"]) for p in points), reverse=True):
        if not kept or rate > kept[-1][1]:
            kept.append((recall, rate))
    return kept[::-1]


def write(results: Path, docs: Path, rows: int) -> None:
    """Put the newest result of each peer and set between the markers of performance.md, and draw the plot."""
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for line in results.read_text().splitlines():
        result = json.loads(line)
        newest[result["set"], result["peer"]] = result
    sets = sorted({name for name, _ in newest}, reverse=True)
    text = [BEGIN, ""]
    for name in sets:
        mine = [r for (s, _), r in newest.items() if s == name]
        mine.sort(key=lambda r: -(qps(r["points"], 0.99) or 0))
        text += [f"Set `{name}`, {rows:,} x 3,072, k = 10, one thread: queries a second by recall", ""]
        text += _table([*(str(t) for t in TARGETS), "highest recall"], map(_speeds, mine))
        text += [f"Set `{name}`: one query at a recall of 0.99, and what else it takes", ""]
        heads = ["p50, us", "p99, us", "build, s", "open, ms", "RAM, MiB", "disk, MiB"]
        text += _table(heads, map(_costs, mine))
    text += ["![recall against queries per second](recall-qps.png)", "", END]
    page = docs / "performance.md"
    old = page.read_text() if page.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    head, rest = old.split(BEGIN, 1)
    page.write_text(head + "\n".join(text) + rest.split(END, 1)[1])
    _plot(newest, sets, docs / "recall-qps.png")


def _table(heads: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Lines of a table whose first column has no heading."""
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _speeds(result: dict[str, Any]) -> list[str]:
    points = result["points"]
    cells = [f"{found:,.0f}" if (found := qps(points, t)) else "-" for t in TARGETS]
    return [result["peer"], *cells, f"{max(p['recall'] for p in points):.4f}"]


def _costs(result: dict[str, Any]) -> list[str]:
    good = [p for p in result["points"] if p["recall"] >= 0.99]
    best = min(good, key=lambda p: p["us"]) if good else None
    spread = [f"{best['p50']:,.0f}", f"{best['p99']:,.0f}"] if best else ["-", "-"]
    sizes = [f"{result[what] / 2**20:,.0f}" for what in ("rss", "disk")]
    return [result["peer"], *spread, f"{result['build_s']:.0f}", f"{result['open_s'] * 1e3:,.0f}", *sizes]


def _plot(newest: dict[tuple[str, str], dict[str, Any]], sets: list[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(sets), figsize=(6.5 * len(sets), 5), squeeze=False)
    for axis, name in zip(axes[0], sets, strict=True):
        for (of, peer), result in sorted(newest.items()):
            if of != name:
                continue
            points = frontier(result["points"])
            misses = [max(1 - recall, 3e-4) for recall, _ in points]
            width = 2.5 if peer == "mrlstore" else 1.2
            axis.plot(misses, [q for _, q in points], marker=".", label=peer, linewidth=width)
        axis.set(xscale="log", yscale="log", xlabel="recall@10", ylabel="queries per second", title=name)
        axis.invert_xaxis()
        ticks = np.array([0.2, 0.1, 0.05, 0.01, 0.005, 0.001])
        axis.set_xticks(ticks, [f"{1 - t:g}" for t in ticks])
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
