"""Verbs. Nothing is computed here: arguments, one library call, rows, exit code."""
