"""The codes of new members of a plate, from a few observations."""
