"""The parts of ``ctf_refine``: inputs, passes, results."""
