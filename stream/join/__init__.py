"""The pure core of one partition: reorder buffer, joiner, example builder, commit."""
