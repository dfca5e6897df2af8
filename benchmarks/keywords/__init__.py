"""Hybrid search against vectors alone and BM25 alone, on judged questions about Python's documentation."""
