"""One run of one contestant on one stream."""
