"""Continuous variability at known poses: components by probabilistic principal component analysis, and what half sets share of them."""
