"""Is training a draw from the posterior? Networks trained many times beside draws of the prior that fit the data."""
