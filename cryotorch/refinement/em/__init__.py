"""Expectation maximisation: initial state, E-step, M-step, evaluation, schedule, the Lightning module."""
