"""The parts of ``simulate``."""
