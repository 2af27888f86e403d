"""A function of tensors, recorded as a list of operations and replayed without the bookkeeping of autograd."""
