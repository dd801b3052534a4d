"""How a program is fitted: what an engine is, and one file or folder for each engine."""
