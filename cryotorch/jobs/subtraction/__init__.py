"""The parts of ``subtract``."""
