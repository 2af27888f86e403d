"""What gives random functions: networks of random weights, the sequences they write, and simpler samplers."""
