"""Test, then train, on one micro-batch."""
