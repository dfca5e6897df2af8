"""Typed columns of metadata, for filters: built once with a segment, mapped, evaluated by numpy.

Each path of the metadata is a column of codes into a sorted dictionary of its distinct scalars, so that
equality and ranges are a bisection and a comparison of small integers. `layout` holds the bytes and checks
them, `build` makes them, `dictionary` finds operands, `mask` evaluates filters, `row_values` reads a
field's values, `full_check` reads all of it.
"""

from mrlstore.columns.build import build_columns
from mrlstore.columns.layout import InvalidColumns
from mrlstore.columns.mask import Columns, Fetch, FieldSummary, open_columns
from mrlstore.columns.row_values import RowValues, Tally

__all__ = [
    "Columns",
    "Fetch",
    "FieldSummary",
    "InvalidColumns",
    "RowValues",
    "Tally",
    "build_columns",
    "open_columns",
]
