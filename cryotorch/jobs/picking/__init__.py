"""The parts of ``create_templates``."""
