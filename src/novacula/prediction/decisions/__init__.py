"""Decisions under costs."""
