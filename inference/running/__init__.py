"""Phases driven over lanes: the loop, its threads, interrupts and checkpoints."""
