"""Errors of replay and simulation: each message is a sentence that says what was wrong, where, and what to do."""


class SimError(Exception):
    """Something a user can mend: a log, a column, a speed; printed without a traceback."""
