"""HSTU (model/hstu.py)."""

from model.hstu import Encoder

__all__ = ["Encoder"]
