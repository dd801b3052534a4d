"""`Laplace`: Gaussians about modes, and predictions linear about them."""
