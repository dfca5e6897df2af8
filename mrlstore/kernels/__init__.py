"""numba kernels over plain arrays and addresses. The only package that imports numba; nothing compiles at import."""
