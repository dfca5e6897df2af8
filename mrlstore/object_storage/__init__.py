"""Object storage: buckets of S3, GCS and Azure, and folders, through one interface of a few verbs.

Everything that must outlive a machine goes through here. `create`, which succeeds only where no object has
the name yet, is the one atomic operation that the rest is built on; all else reads, or writes objects whose
names belong to their content.
"""

from mrlstore.object_storage.folder import FolderStorage
from mrlstore.object_storage.interface import ObjectStorage, StoredObject
from mrlstore.object_storage.location import open_storage

__all__ = ["FolderStorage", "ObjectStorage", "StoredObject", "open_storage"]
