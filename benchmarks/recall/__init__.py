"""Recall by exact score on data of many kinds: commands, `python -m benchmarks.recall.NAME`."""
