"""Services of a run and the guard that takes them down."""
