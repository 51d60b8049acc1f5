"""Recorded logs and synthetic streams, replayed into Kafka or in one process, and the `hstu` command."""
