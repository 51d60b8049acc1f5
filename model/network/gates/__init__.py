"""Ranking models of gates and experts."""
