"""What outlives a process: checkpoints, snapshots, aliases; durable files and locks."""
