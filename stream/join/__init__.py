"""The pure core of one partition: reorder buffer, joiner, example builder, outbox, and the commit."""
