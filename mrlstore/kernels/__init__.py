"""Numba kernels over plain arrays and addresses. No other package imports numba; importing compiles nothing.

Arguments that mean the same in every kernel:

- table: int64 [group_table.FIELDS], the addresses and sizes of a group, see `group_table`
- memory: int64 [scratch.FIELDS], the addresses and sizes of working memory, see `scratch`
- code, scale, bias: the query's code (address of int8 [stride]), its scale, and 128 x the sum of its numbers,
  which turns a dot product with stored codes (uint8, the number plus 128) into one of signed numbers
- allowed: address of uint8 [n], not 0 for rows that may be answers; 0: all may
- beam: int64 [limit + 16], packed entries, best first, see `topk.pack`
- marks: uint8 [n], 1 for rows that this walk has seen; all zero between calls. seen: int32 [n], those rows
- pending: int64, rows that wait to be scored, and `waiting`, how many; scores: float32, their code scores
- beam_ratio, stop_margin: see `mrlstore.planning.access_path`

Arguments have no type hints that mean anything: numba derives types from the signature of the kernel.
"""
