"""How often a network of the prior has zero training error, in several ways, and what that says of new examples."""
