"""Checks that every package makes of what it is given."""
