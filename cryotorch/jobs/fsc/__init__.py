"""The parts of ``validation_fsc``, and the judgement of half maps that every job shares: mask, curve, claim, advice."""
