"""Directories that outlive a process: checkpoints, snapshots, aliases."""
