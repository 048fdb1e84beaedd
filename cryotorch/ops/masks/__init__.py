"""Soft masks, morphology, segments, connected components."""
