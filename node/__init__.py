"""One running node: processes, time, HTTP, people."""

__version__ = "0.1.0"
