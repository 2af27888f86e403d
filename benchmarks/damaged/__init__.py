"""Small files and run folders of every kind that is read, and ways to damage them, for `benchmarks.fuzz`."""
