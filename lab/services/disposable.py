"""Whether a server that the user names may be emptied: only where the user says so."""

import os

VARIABLE = "LAB_SERVICES_DISPOSABLE"


def may_be_emptied() -> bool:
    """``LAB_SERVICES_DISPOSABLE=1``: what is in LAB_REDIS_URL's database may go, and other labs' databases in PostgreSQL are no reason to stop."""
    return os.environ.get(VARIABLE) == "1"
