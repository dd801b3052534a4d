"""Data that are read a batch of rows at a time: `Batches`."""
