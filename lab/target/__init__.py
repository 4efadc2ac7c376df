"""What is under test: its server, its interpreter, where it listens."""
