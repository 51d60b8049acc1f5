"""HSTU's attention as Triton kernels for CUDA, and the check that they must pass before they are used."""
