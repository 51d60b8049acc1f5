"""Recorded logs and data sets as events."""
