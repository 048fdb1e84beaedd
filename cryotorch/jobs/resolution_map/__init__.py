"""The parts of ``local_resolution``, which ``sharpen`` with ``local=true`` shares: the map of local resolution, and its files."""
