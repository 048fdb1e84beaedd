"""Parts of ``job=particles``: what can be done to a list of particles between refinements, one file per kind of step."""
