"""Helpers of the bench `lego`."""
