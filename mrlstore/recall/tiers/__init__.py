"""The tier report: what each length of prefix, alone and in two stages, gives and costs on one's own data.

The recall of scans is computed from exact ranks over all rows (`answered`). Latencies and the losses of
graphs are measured on a sample of the rows, with a graph of its own for every tier, so that each is judged at
its best (`bench`). `measure` puts them together, `figures` holds the outcome, `page` draws it, and `report`
writes it to files.
"""

from mrlstore.recall.defaults import DIMS
from mrlstore.recall.tiers.bench import Qrels
from mrlstore.recall.tiers.figures import GOAL, PROJECTED, Tier
from mrlstore.recall.tiers.measure import tier_report
from mrlstore.recall.tiers.report import TierReport

__all__ = ["DIMS", "GOAL", "PROJECTED", "Qrels", "Tier", "TierReport", "tier_report"]
