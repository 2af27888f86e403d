"""Populations that follow the posterior from the prior to the data."""
