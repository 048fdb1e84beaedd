"""Densities from nothing: phantoms, Gaussians, picking templates."""
