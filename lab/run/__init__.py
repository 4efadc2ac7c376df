"""From a plan to trials on disk."""
