"""How an experiment is run."""
