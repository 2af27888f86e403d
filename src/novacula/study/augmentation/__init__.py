"""Which augmentations of training images lower the loss on images that were not trained on."""
