"""Tests of the benches of distillation and continual learning."""
