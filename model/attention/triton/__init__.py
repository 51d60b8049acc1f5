"""HSTU's attention as Triton kernels for CUDA, and the check that they pass before they serve."""
