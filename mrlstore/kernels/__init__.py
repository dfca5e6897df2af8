"""numba kernels over plain arrays and addresses: the only package that imports numba. Import compiles nothing."""
