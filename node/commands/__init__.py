"""The verbs of the command line, one module for each few that belong together; loaded on use."""
