"""From Kafka events to per-user sequences and training examples. Imports nothing of model/ or sim/."""
