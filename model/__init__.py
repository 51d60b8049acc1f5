"""HSTU, its growing vocabulary, the learner and the snapshots that answer queries. Imports of stream/ only the example."""
