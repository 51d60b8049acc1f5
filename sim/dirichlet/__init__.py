"""The paper's synthetic stream, and the exact posterior of whoever knows its generator."""
