"""What travels: ids, tokens, events, dead letters, and event time."""
