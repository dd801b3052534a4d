"""`SVI`: a guide fitted by its evidence lower bound."""
