"""mrlstore under VectorDBBench: `python -m benchmarks.vectordbbench DATASET`."""
