"""`NUTS`: Hamiltonian Monte Carlo that chooses its own trajectory lengths."""
