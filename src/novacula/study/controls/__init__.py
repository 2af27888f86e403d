"""Honest controls: what others predict of the same examples, having seen as little of them."""
