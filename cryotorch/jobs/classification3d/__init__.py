"""The parts of ``classify`` and ``hetero_refine``: inputs, settings, and results, which both share."""
