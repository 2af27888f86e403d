"""Figures of the prior over functions."""
