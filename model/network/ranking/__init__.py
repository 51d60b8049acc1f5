"""What models that rank by a candidate and a history share: their input, their arguments, layers from one generator."""
