"""Prior precisions and noise at the maximum of the Laplace evidence, for fixed weights."""
