"""Backups of stores in a folder or any other place that fsspec reaches: written, verified, pruned and restored."""
