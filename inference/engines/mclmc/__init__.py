"""`MCLMC`: microcanonical Langevin Monte Carlo, chains without an acceptance test."""
