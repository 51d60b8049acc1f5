"""Errors of the model: each message is a sentence that says what was wrong, where, and what to do."""


class ModelError(Exception):
    """Something a user can mend: a checkpoint, snapshot, setting or query; printed without a traceback."""
