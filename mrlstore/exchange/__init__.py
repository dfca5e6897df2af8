"""Import and export of rows: JSONL, npy + JSONL, Parquet, Arrow, pandas and polars frames.

`import_rows` reads any of them; `export_rows` writes files; `to_arrow` and its like give tables and frames. A
round trip keeps ids, namespaces, metadata and documents, and the stored float16 rows bit for bit. pyarrow,
pandas and polars are imported when they are needed. See docs/import-export.md.
"""

from mrlstore.exchange.exporting import Exported, export_rows, to_arrow, to_batches, to_pandas, to_polars
from mrlstore.exchange.importing import Imported, import_rows
from mrlstore.exchange.input_row import Refusal

__all__ = [
    "Exported",
    "Imported",
    "Refusal",
    "export_rows",
    "import_rows",
    "to_arrow",
    "to_batches",
    "to_pandas",
    "to_polars",
]
