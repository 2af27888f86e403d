"""The ground floor: errors, randomness, weights, data, results, execution. It imports nothing from above."""
