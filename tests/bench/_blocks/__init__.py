"""Helpers of the bench `blocks`."""
