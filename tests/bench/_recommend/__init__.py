"""What `python -m tests.bench recommend` is made of."""
