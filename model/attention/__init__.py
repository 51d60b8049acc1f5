"""HSTU attention over jagged sequences: one signature, a plain reference, a fast path in plain PyTorch."""

from model.attention.activations import ACTIVATIONS, Activation, activation_named
from model.attention.api import attention
from model.attention.tile_plan import Tile, TilePlan, plan_tiles
from model.attention.tiled import attend

__all__ = ["ACTIVATIONS", "Activation", "Tile", "TilePlan", "activation_named", "attend", "attention", "plan_tiles"]
