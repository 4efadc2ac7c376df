"""The command line: one module for each kind of command; ``bench.py`` puts them together."""
