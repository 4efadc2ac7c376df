"""What runs in the target's own process: the wrapper around an application.  Standard library, anyio and what the target has; nothing of the lab.

Only relative imports: an application of the user's sees this package alone, under another name.
"""
