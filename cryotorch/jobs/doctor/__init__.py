"""``cryotorch doctor``: whether installation and machine are fit for work; no job, and without parameters."""
