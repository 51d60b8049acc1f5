"""`hstu demo`: the whole pipeline on this machine."""
