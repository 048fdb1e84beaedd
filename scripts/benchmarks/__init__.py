"""How fast and how good cryotorch is on this machine; ``scripts/benchmark`` runs it.

Uses the package from outside, like a user's program: nothing in cryotorch knows of it.
"""
