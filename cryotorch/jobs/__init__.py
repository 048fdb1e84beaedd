"""What a user can ask for: one short file per job, which reads like the methods paragraph of a paper.

A job module holds a dataclass of its parameters and ``run(settings)``; it may import everything below it, and it
imports the heavy parts inside ``run``, so that a typing error is answered at once.
"""
