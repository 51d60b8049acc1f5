"""Replay of a source, into Kafka or through this process alone."""
