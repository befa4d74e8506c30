"""The assistant: plain words in, what is wanted out, what is missing asked for. Pure, no model."""
