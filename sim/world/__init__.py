"""The drifting world: users, items, responses, slates, and what could be known of them at best."""
