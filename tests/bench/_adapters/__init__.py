"""A tiny model trained on real text, and honest and hostile adapters really trained on it."""
