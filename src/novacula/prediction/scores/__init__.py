"""Scores of predictions against labels, of inputs against the training data, of predictives against a reference."""
