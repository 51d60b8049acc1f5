"""Parts of a row of a log: its time, its action, its slate."""
