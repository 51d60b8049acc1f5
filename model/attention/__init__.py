"""HSTU attention over jagged sequences: one signature, a plain reference, a fast path in plain PyTorch."""

from model.attention.activations import ACTIVATIONS, Activation, activation_named
from model.attention.api import attention
from model.attention.padded import attend
from model.attention.plan import Plan, Tile, plan_tiles

__all__ = ["ACTIVATIONS", "Activation", "Plan", "Tile", "activation_named", "attend", "attention", "plan_tiles"]
