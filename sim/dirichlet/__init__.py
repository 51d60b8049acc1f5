"""The paper's synthetic stream, and the oracle: the exact posterior under its generator."""
