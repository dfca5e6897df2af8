"""The int8 codes and the HNSW graph of one group of rows."""
