"""One running node: processes, time, HTTP, people."""
