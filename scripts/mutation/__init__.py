"""Whether the tests notice a wrong sign, constant or comparison; ``scripts/mutants`` runs it.

Changes a copy of the repository, never the working tree, and imports nothing of cryotorch: every
trial imports it anew.
"""
