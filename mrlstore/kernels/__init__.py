"""numba kernels over plain arrays and addresses. No other package imports numba; import compiles nothing."""
