"""Recorded logs, synthetic streams and drifting worlds; their replay and comparison; the `hstu` command."""
