"""Users' histories as the encoder needs them: their rows, their states between requests, what follows them."""
