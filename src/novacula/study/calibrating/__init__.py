"""Calibrated probabilities, intervals and sets of a person's own network, without rows set aside."""
