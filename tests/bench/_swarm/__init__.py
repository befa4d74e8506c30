"""Parts of the bench trust-swarm."""
