"""Helpers for arrays that know nothing of recommenders: digests, growth, compilation, state dictionaries."""
