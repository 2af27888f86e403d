"""Populations of networks that are driven from the prior to those that fit all labels."""
