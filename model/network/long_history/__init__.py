"""Ranking models of long histories: search among the behaviours first, or memories and hashes of them."""
