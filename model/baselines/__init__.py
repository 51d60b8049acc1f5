"""Rivals of the model, one a file, which answer the same questions: `ranks`, then `learn`."""
