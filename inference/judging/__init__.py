"""How good a posterior is: convergence, scores, calibration, and where its variance comes from."""
