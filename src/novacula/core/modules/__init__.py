"""What is done with modules of the user's: calling them with other tensors, in train mode or not."""
