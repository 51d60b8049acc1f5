"""What baselines count with: decay, histories, sparse pair counts, ranks from counts."""
