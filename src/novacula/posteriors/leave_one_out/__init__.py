"""What training examples would be predicted to be, had the network not seen them."""
