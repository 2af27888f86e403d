"""Drivers that run other people's learners of priors and invariances on the tasks of our own benchmarks."""
