"""Vocabulary, content and learning: no sockets, no tasks, no settings."""
