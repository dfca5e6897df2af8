"""Moving in from other vector databases: Qdrant, Chroma, LanceDB, Pinecone, FAISS indexes, and plain files.

`migrate` brings everything over, goes on where it was interrupted, and at the end compares what arrived with
what was there. Each database is an `Origin`; its package is loaded when it is needed. See
docs/integrations/migrate.md.
"""

from mrlstore.exchange.migrate.comparison import Checked
from mrlstore.exchange.migrate.migration import Migrated, migrate
from mrlstore.exchange.migrate.origin import Choice, Collection, Origin, open_origin

__all__ = ["Checked", "Choice", "Collection", "Migrated", "Origin", "migrate", "open_origin"]
