"""What travels: ids, tokens, events, topics and dead letters."""
