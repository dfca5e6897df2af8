"""mrlstore under ann-benchmarks and VIBE: see `module`."""
