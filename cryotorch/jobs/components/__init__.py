"""The parts of ``variability``."""
