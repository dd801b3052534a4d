"""A NumPyro program bound to data: what it is, what its sites are, what it computes."""
