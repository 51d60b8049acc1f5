"""HSTU's layers as compiled loops for the CPU (numba)."""
