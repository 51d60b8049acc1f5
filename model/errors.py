"""Errors of the model: each message is a sentence that says what is wrong, where, and what to do."""


class ModelError(Exception):
    """Something a user can correct: a checkpoint, snapshot, setting or query; printed without a traceback."""


class DivergedError(ModelError):
    """A loss, a score or a weight is not finite: the same step from the same state would fail again."""
