"""Sources of events: recorded logs, data sets, and what all sources have in common."""
