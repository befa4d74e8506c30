"""Measurements on real parts: `python -m tests.bench NAME [--json] [options]`."""
