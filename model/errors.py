"""Errors of the model: each message is a sentence that says what is wrong, where, and what to do."""


class ModelError(Exception):
    """Something a user can correct: a checkpoint, snapshot, setting or query; printed without a traceback."""
