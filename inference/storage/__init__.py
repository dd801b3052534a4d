"""A posterior in a file: written, read, and held against its program."""
