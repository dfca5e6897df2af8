"""The demonstration: semantic search over the documentation that every Python carries."""
