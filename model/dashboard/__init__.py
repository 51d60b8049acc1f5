"""What the dashboard of `hstu serve` shows: metrics logs, processes, snapshots, dead letters, and its page."""
