"""The demonstration: semantic search over the documentation that comes with Python."""
