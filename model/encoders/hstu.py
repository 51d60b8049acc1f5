"""HSTU (model/network/encoders/hstu.py)."""

from model.network.encoders.hstu import Encoder

__all__ = ["Encoder"]
