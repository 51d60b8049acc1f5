"""The recommender: an encoder and its two heads, retrieval and ranking."""
