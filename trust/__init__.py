"""Judgement: values in, verdicts out."""
