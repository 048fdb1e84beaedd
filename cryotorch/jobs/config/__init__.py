"""From YAML and the command line to typed settings: the catalogue of jobs, parsing, units, limits."""
