"""From measurements to the table and the plot of docs/performance.md."""

from __future__ import annotations

import json
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
        text += [f"Set `{name}`, {rows:,} x 3,072, k = 10, one thread, one query at a time:", ""]
        text += [
            "| | "
            + " | ".join(f"QPS at {t}" for t in TARGETS)
            + " | highest recall | p50 / p99 at 0.99 | build, s | open, ms | RAM / disk, MiB |"
        ]
        text += ["|---" * (len(TARGETS) + 6) + "|"]
        mine = [r for (s, _), r in newest.items() if s == name]
        for result in sorted(mine, key=lambda r: -(qps(r["points"], 0.99) or 0)):
            text.append(_row(result))
        text.append("")
    text += ["![recall against queries per second](recall-qps.png)", "", END]
    page = docs / "performance.md"
    old = page.read_text() if page.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    head, rest = old.split(BEGIN, 1)
    page.write_text(head + "\n".join(text) + rest.split(END, 1)[1])
    _plot(newest, sets, docs / "recall-qps.png")


def _row(result: dict[str, Any]) -> str:
    points = result["points"]
    cells = [f"{found:,.0f}" if (found := qps(points, t)) else "-" for t in TARGETS]
    good = [p for p in points if p["recall"] >= 0.99]
    best = min(good, key=lambda p: p["us"]) if good else None
    spread = f"{best['p50']:.0f} / {best['p99']:.0f} us" if best else "-"
    top = max(p["recall"] for p in points)
    cells += [f"{top:.4f}", spread, f"{result['build_s']:.0f}", f"{result['open_s'] * 1e3:,.0f}"]
    cells.append(f"{result['rss'] / 2**20:,.0f} / {result['disk'] / 2**20:,.0f}")
    return f"| {result['peer']} | " + " | ".join(cells) + " |"


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
