"""What a posterior is worth: convergence, scores, calibration, where the variance is from."""
