"""What data mean: labels, columns, words and missing values, and what is said of them."""
