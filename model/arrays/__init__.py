"""Helpers for arrays, independent of recommenders: digests, growth, compilation, state dictionaries."""
