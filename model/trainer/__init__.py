"""The process `hstu train`: examples from Kafka in one global order, training, checkpoints, reports."""
