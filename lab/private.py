"""Folders whose content the lab trusts: ours, real, and closed to everybody else, or they are not used.

In /var/tmp and the like anybody can make a folder of the name that the lab would choose and wait for the lab to run what lies in it.
"""

import os
import stat
from pathlib import Path

from lab.words.errors import StoreError


def why_not_private(folder: Path) -> str:
    """Why what lies in this folder may be somebody else's work, or an empty string."""
    try:
        seen = folder.lstat()
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    if not stat.S_ISDIR(seen.st_mode):
        return "is no folder but a link or a file"
    if seen.st_uid != os.getuid():
        return f"belongs to user {seen.st_uid}, not to {os.getuid()}"
    if seen.st_mode & 0o022:
        return f"can be written by others (mode {stat.S_IMODE(seen.st_mode):o})"
    return ""


def private_folder(folder: Path) -> Path:
    """Make the folder (mode 0700, parents too) or find it private already.  Raises StoreError with the reason where it is not."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be made: {error.strerror}", "Make room there, or set XDG_CACHE_HOME."
        ) from error
    problem = why_not_private(folder)
    if problem:
        raise StoreError(f"{folder} {problem}", "Remove it, or set XDG_CACHE_HOME to a folder of your own.")
    return folder
