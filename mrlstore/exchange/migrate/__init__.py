"""Moving from another database: Qdrant, Chroma, LanceDB, Pinecone, files of FAISS and hnswlib, plain files.

`migrate` copies everything, continues after an interruption, and at the end compares what was stored with
what was read. Each database is an `Origin`; its package is imported when it is needed. See
docs/integrations/migrate.md.
"""

from mrlstore.exchange.migrate.comparison import Checked
from mrlstore.exchange.migrate.migration import Migrated, migrate
from mrlstore.exchange.migrate.origin import Choice, Collection, Origin, open_origin

__all__ = ["Checked", "Choice", "Collection", "Migrated", "Origin", "migrate", "open_origin"]
