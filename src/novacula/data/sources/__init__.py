"""What files hold, by their kind."""
