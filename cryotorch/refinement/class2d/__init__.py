"""2D classification: soft EM over class averages, turns in the plane and shifts, batch after batch. May import what is in ``refinement`` and ``ops``."""
