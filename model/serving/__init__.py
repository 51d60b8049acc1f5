"""Queries on a snapshot: scoring, answers, the swap to a newer snapshot."""
