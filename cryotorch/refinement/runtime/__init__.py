"""Around the algorithm: prefetching, timing, several processes, checkpoints."""
