"""Kafka's clients: how they are made, topics, and the check that a broker answers."""
