"""The worker process: Faust agents around the core of each partition, and its metrics."""
