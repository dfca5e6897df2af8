"""What users call: `Store` and its methods, sync and async, and how a store is opened."""
