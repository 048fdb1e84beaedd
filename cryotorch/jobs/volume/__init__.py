"""The parts of ``volume_tools``."""
