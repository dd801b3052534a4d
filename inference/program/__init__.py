"""Binding a NumPyro program to data, and finding its sites and what it computes."""
