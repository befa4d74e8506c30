"""Helpers of the bench of knowledge transfer: the models and text it works on, and kept results."""
