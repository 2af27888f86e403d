"""What `novacula augment` has found: in words, as a figure, and as a page, from saved results without torch."""
