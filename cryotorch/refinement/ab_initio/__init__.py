"""A first map from images alone: soft EM over a bank of slices, then over the few poses that remain."""
