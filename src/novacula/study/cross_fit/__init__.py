"""Cross-fitting: what networks say of examples that they have not seen, and all that follows from it."""
