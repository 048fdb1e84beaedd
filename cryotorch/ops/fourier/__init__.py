"""Transforms, slices, the image model, and the way back: reconstruction and filters."""
