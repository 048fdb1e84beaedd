"""The parts of ``sharpen``."""
