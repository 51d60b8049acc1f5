"""Tests; a package, so that no other `tests` among the installed packages comes before it."""
