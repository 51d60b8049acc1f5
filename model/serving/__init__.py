"""Queries on a snapshot: scoring, answers, the HTTP service, the swap to a newer snapshot."""
