"""Ranking models of short histories: interest that depends on the candidate."""
