"""The plots of a tier report, by matplotlib: recall against latency, against memory, against the shortlist.

Colours are those of Okabe and Ito, which people with any kind of colour vision tell apart; every prefix has a
marker of its own besides. Points carry no labels, which would lie on each other: a legend below names them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from mrlstore.errors import InvalidInput
from mrlstore.recall.tiers.figures import GOAL, Tier, TierFigures

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_DPI: Final = 150  # pixels of an inch, at which a plot is sharp on a page of 1,400 pixels and on a telephone
_EDGE: Final = 0.002  # how far beyond 1 the stretched axis of recall would end


class Plot(NamedTuple):
    """One plot as a picture, and what it shows, in words."""

    png: bytes
    words: str


def as_png(report: TierFigures) -> bytes:
    """All three plots side by side, with one legend."""
    figure = _figure(14, 5.6)
    for axes, draw in zip(figure.subplots(1, 3), _PLOTS.values(), strict=True):
        draw(axes, report)
    _legend(figure, figure.axes[0], 4)
    figure.suptitle(
        f"{Path(report.path).name}: {report.rows:,} rows x {report.dim:,} dims, recall@{report.k} over "
        f"{report.queries} {report.source}",
        fontsize=12,
    )
    return _png(figure)


def each_plot(report: TierFigures) -> list[Plot]:
    """The same three, each by itself with a legend below it, for a page that stacks them."""
    found = []
    for words, draw in _PLOTS.items():
        figure = _figure(4.8, 5.4)
        axes = figure.subplots()
        draw(axes, report)
        _legend(figure, axes, 2)
        found.append(Plot(_png(figure), words))
    return found


def _figure(width: float, height: float) -> Any:
    """An empty figure of so many inches."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidInput(
            "plots need matplotlib: pip install 'mrlstore[report]', or save as .json or .csv"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _legend(figure: Any, axes: Any, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def _png(figure: Any) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=_DPI)
    return image.getvalue()


def _prefixes(report: TierFigures) -> list[int]:
    return sorted({tier.dim for tier in report.tiers if tier.kind != "store"})


def _style(report: TierFigures, dim: int) -> dict[str, Any]:
    place = _prefixes(report).index(dim) % len(COLOURS)
    return {"color": COLOURS[place], "marker": MARKERS[place], "markersize": 7}


def _chosen(report: TierFigures, kind: str, dim: int | None = None) -> list[Tier]:
    return [tier for tier in report.tiers if tier.kind == kind and dim in (None, tier.dim)]


def _hollow(style: dict[str, Any]) -> dict[str, Any]:
    return {**style, "markerfacecolor": "white", "markeredgewidth": 1.8, "linestyle": "none"}


def _by_latency(axes: Any, report: TierFigures) -> None:
    for dim in _prefixes(report):
        staged = _chosen(report, "two-stage", dim)
        if staged:
            places = [t.p50_ms for t in staged], [t.recall for t in staged]
            axes.plot(*places, label=f"{dim:,} dims + re-rank", **_style(report, dim))
    for dim in _prefixes(report):
        for tier in _chosen(report, "graph", dim):
            style = _hollow(_style(report, dim))
            axes.plot([tier.p50_ms], [tier.recall], label=f"{dim:,} dims alone", **style)
    _ring(axes, report, lambda tier: tier.p50_ms)
    axes.set_xscale("log")
    _plain_ticks(axes)
    axes.set_xlabel(f"p50 latency in ms, one thread, {report.sample:,} rows")
    _finish(axes, report, "Recall against latency (graphs)")


def _by_memory(axes: Any, report: TierFigures) -> None:
    for dim in _prefixes(report):
        staged = _chosen(report, "two-stage", dim)
        if staged:
            enough = next((tier for tier in staged if tier.reaches_goal), staged[-1])
            style = _style(report, dim) | {"linestyle": "none"}
            label = f"{dim:,} dims + re-rank of {enough.shortlist}"
            axes.plot([enough.memory_bytes_per_row], [enough.recall], label=label, **style)
    for dim in _prefixes(report):
        for tier in _chosen(report, "scan", dim):
            style = _hollow(_style(report, dim))
            axes.plot([tier.disk_bytes_per_row], [tier.recall], label=f"{dim:,} dims alone", **style)
    _ring(axes, report, lambda tier: tier.memory_bytes_per_row)
    axes.set_xscale("log")
    _plain_ticks(axes)
    axes.set_xlabel("bytes per row in memory")
    axes.margins(x=0.1)
    _finish(axes, report, "Recall against memory (alone: a scan)")


def _ring(axes: Any, report: TierFigures, place: Callable[[Tier], float]) -> None:
    """A ring around the tier that is recommended."""
    names = {row.tier for row in report.summary if "recommended" in row.what}
    for tier in report.tiers:
        if tier.name in names:
            style = {"marker": "o", "markersize": 17, "markerfacecolor": "none", "linestyle": "none"}
            axes.plot([place(tier)], [tier.recall], color="#1a1a1a", label="recommended", **style)


def _by_shortlist(axes: Any, report: TierFigures) -> None:
    for dim, curve in report.curves.items():
        places = [s for s, _ in curve], [recall for _, recall in curve]
        axes.plot(*places, label=f"{dim:,} dims", **_style(report, dim))
    axes.set_xscale("log")
    _plain_ticks(axes)
    axes.set_xlabel("shortlist: rows re-ranked on all dims")
    _finish(axes, report, "Recall against the shortlist (exact ranks by prefix)")


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


_PLOTS: Final[dict[str, Callable[[Any, TierFigures], None]]] = {
    "recall against latency": _by_latency,
    "recall against memory": _by_memory,
    "recall against the length of the shortlist": _by_shortlist,
}
