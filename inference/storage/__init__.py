"""Saving a posterior to a file, and loading it with the program that it was fitted with."""
