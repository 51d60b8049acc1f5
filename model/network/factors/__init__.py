"""Ranking models of factors and their products."""
