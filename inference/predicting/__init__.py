"""A program run at draws: predictions, their means, labels, draws of the prior."""
