"""Counts as features of a softmax over the live items, beside an encoder's scores or without them."""
