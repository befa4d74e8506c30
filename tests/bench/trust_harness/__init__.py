"""Aggregation rules under attack: a small task, attackers, rules side by side, a simulation."""
