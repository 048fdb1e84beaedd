"""Scores of poses, their bounds, and the same on CUDA."""
