"""More partitions for a system that has run: stores divided at a barrier in the log, and the log's new beginning."""
