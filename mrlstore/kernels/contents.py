"""Which kernels there are: a library that was made from another list is made again."""

from __future__ import annotations

from typing import Final

# The modules of this package that hold kernels, and their kernels.
KERNELS: Final = {
    "encode_rows": ("encode_rows",),
    "joining": ("join_texts",),
    "links": ("insert_rows", "refine", "square_lengths"),
    "reach": ("link_to", "reach", "reverse"),
    "rerank": ("exact", "rerank", "rerank_ends"),
    "several_groups": ("rerank_groups", "search_groups"),
    "two_stage": ("rerank_copies", "search_scan", "search_walk"),
    "unit_rows": ("normalise", "unit_halves"),
}
