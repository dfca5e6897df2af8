"""The groups that one query searches together: int64 [groups, FIELDS], made once, a row for each group.

Rows of all groups are counted through: row i of a group is place FIRST + i. Larger groups come first, because
the best rows found so far end the searches of later groups; those without codes come last. A query has the
same code in all groups: they have the same rotation, or none.
"""

from __future__ import annotations

from typing import Final

TABLE: Final = 0  # address of the group's table, see group_table
FIRST: Final = 1  # place of the group's first row; rising
ROWS: Final = 2
PATH: Final = 3  # one of the four below
ALLOWED: Final = 4  # address of uint8 [rows], the rows that may be found; 0: all
NODES: Final = 5  # the same for nodes, see two_stage.search_walk
NODE_COUNT: Final = 6  # nodes that may be found
EF: Final = 7  # candidates that a walk keeps
LOST_ENTRIES: Final = 8  # see filtered_walk.walk_filtered
COPIES: Final = 9  # near copies of a node that are scored, at most
SKIPPED: Final = 10  # row that walks leave out, or -1
NUMBER: Final = 11  # of the group among the answers' counts
FIELDS: Final = 12

# Walks measure by the k-th best, or by the tenth: by the first alone they end too early.
LEAST_RANK: Final = 10

EXACT: Final = 0  # every allowed row is scored in full
SCAN: Final = 1  # the codes of all allowed rows
WALK: Final = 2
FILTERED: Final = 3  # a walk under a filter
