"""CryoSPARC's ``.cs`` and passthrough files: reading, writing, and what of them stands for which RELION column."""
