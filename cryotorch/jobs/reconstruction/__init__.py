"""The parts of ``reconstruct``."""
