"""Running the phases of an engine over its lanes: loop, threads, interrupts, checkpoints."""
