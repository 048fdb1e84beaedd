"""Rotations, point groups, directions of view, placing and turning maps."""
