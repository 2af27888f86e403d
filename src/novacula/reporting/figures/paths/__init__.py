"""Figures of runs that are compared."""
