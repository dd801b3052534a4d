"""`NUTS`: Hamiltonian Monte Carlo that chooses the length of its trajectories."""
