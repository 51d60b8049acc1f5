"""Contestants on the same streams: runs, their figures, and a report."""
