"""The parts of ``ab_initio``."""
