"""The error of replay and simulation: its message says what was wrong, where, and what to do."""


class SimError(Exception):
    """Something that a user can mend, such as a log, a column or a speed; printed without a traceback."""
