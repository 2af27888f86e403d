"""What people write, and the methods and models that it names."""
