"""The parts of ``orientation_diagnostics``."""
