"""What a micro-batch is made of: candidates, labels, vocabularies, the catalogue."""
