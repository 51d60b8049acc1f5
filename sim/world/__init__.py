"""The drifting world: users, items, slates, their clicks, and an upper bound for every recommender."""
