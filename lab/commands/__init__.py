"""The bodies of commands, and what a person sees."""
