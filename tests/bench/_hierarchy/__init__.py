"""The swarm of the hierarchy bench."""
