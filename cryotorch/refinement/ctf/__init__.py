"""Refinement of the CTF: sums over images, comparison, fit, and writing back into particles."""
