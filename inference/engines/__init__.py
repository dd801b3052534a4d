"""How a program is fitted: what an engine is, and each of them."""
