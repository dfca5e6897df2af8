"""nDCG@10 by tier on a retrieval task that needs no network: `python -m benchmarks.retrieval`."""
