"""Replay of a source, into Kafka or through the pipeline in this process."""
