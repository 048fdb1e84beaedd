"""Global and local search of poses: candidates, branch and bound, polish, priors, errors."""
