"""Prequential evaluation: ranks, tallies of metrics, the window of the last targets."""
