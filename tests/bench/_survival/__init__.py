"""Tests of the bench of verbs that are broken off."""
