"""Drift detectors on what a trainer tests and on what comes in."""
