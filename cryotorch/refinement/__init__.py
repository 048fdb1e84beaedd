"""The algorithm: pose search, M-step, schedule, and the Lightning module around them. Opens no file."""
