"""Models of the same data side by side: out-of-fold losses, paired gaps, and which of them are real."""
