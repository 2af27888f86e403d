"""The structures in which a curvature can be held, one a file."""
