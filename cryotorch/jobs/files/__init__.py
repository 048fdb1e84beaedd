"""The folder of a run: who wrote what in it, lock, fingerprint, resuming, replacing, memory that a job will need."""
