"""The process `hstu train`: examples from Kafka in one global order, learnt, checkpointed, reported."""
