"""Run a program at draws: predictions, means, labels, and draws from the prior."""
