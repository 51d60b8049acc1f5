"""Kafka: how its clients are made, its topics, and the check that a broker answers."""
