"""What jobs read in common: maps on one grid, half maps, particles, references, and what was found damaged in them."""
