"""Helpers of the gate's bench: what loss noise is really like, and streams that have it."""
