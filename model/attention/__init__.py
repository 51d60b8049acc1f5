"""HSTU attention over jagged sequences: a plain reference (reference.py), a fast path in plain PyTorch (tiled.py), and
two kinds of kernels (cpu/, triton/)."""
