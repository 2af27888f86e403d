"""The figures: pure functions of saved results that return a `Picture`, or None where these do not suffice."""
