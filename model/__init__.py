"""HSTU, its growing vocabulary, the learner and the snapshots that answer queries; of stream/ it knows the example."""
