"""The program of `HnswlibProcess`: loads an index file with hnswlib and answers questions from it.

hnswlib_child.py FILE DIM ROWS; each line of input is {"k": K, "vector": [...]}, and each line of output
{"labels": [...]} or {"error": "..."}. It imports nothing of mrlstore, since it runs as a file.
"""

from __future__ import annotations

import json
import sys

EF = 200  # candidates that a search keeps, or k where that is more


def main(path: str, dim: int, rows: int) -> None:
    """Answer until the input ends. `rows` keeps hnswlib from the capacity that the file claims."""
    import hnswlib

    index = hnswlib.Index("ip", dim)  # of unit vectors: the cosine
    index.load_index(path, max_elements=rows)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            index.set_ef(max(EF, question["k"]))
            labels, _ = index.knn_query([question["vector"]], k=question["k"], num_threads=1)
            answer: dict[str, object] = {"labels": labels[0].tolist()}
        except RuntimeError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
