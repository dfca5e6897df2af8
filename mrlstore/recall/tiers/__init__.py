"""The tier report: what each length of prefix, alone and in two stages, gives and costs on one's own data.

Recall of scans is measured by exact ranks over all rows (`asked`); latencies and the losses of graphs on a
sample of the rows, with a graph of its own for every tier, so that each is judged at its best (`bench`).
`measure` puts them together, `report` holds what came out, `page` turns it into pages and plots.
"""

from mrlstore.recall.tiers.bench import Qrels
from mrlstore.recall.tiers.measure import DIMS, tier_report
from mrlstore.recall.tiers.report import GOAL, PROJECTED, Tier, TierReport

__all__ = ["DIMS", "GOAL", "PROJECTED", "Qrels", "Tier", "TierReport", "tier_report"]
