"""Embedding tables, dense parameters, and the AdamW that moves them."""
