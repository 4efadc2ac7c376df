"""Pin every package of the lab to the newest versions that work together, on every supported Python, without naming where they come from.

    uv run scripts/renew_pins.py          take the newest versions, write them into pyproject.toml; then run the tests
    uv run scripts/renew_pins.py --check  say what pyproject.toml pins otherwise than the lock of this checkout

uv.lock names the index that it was made with, so it is not in the repository; these constraints are, and a fresh clone gets the same versions.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "# pins: begin (made by scripts/renew_pins.py, do not edit)"
END = "# pins: end"


def pins(lock: dict[str, Any]) -> list[str]:
    """``name==version`` of every package, with the Pythons that it is for where a package has several versions."""
    versions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for package in lock["package"]:
        if "registry" in package.get("source", {}):
            versions[package["name"]].append(package)
    found = []
    for name, packages in sorted(versions.items()):
        for package in packages:
            marker = "" if len(packages) == 1 else f" ; {_pythons(package['resolution-markers'])}"
            found.append(f"{name}=={package['version']}{marker}")
    return found


def _pythons(markers: list[str]) -> str:
    """The part of the markers that speaks of Python's version; the platforms are the same for all."""
    parts = dict.fromkeys(
        " and ".join(re.findall(r"python_full_version [<>=!]+ '[^']+'", marker)) for marker in markers
    )
    return " or ".join(f"({part})" if " and " in part and len(parts) > 1 else part for part in parts)


def written(text: str, found: list[str]) -> str:
    """pyproject.toml with these constraints between the markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(f'    "{one}",' for one in found)
    return f"{before}{BEGIN}\nconstraint-dependencies = [\n{lines}\n]\n{END}{after}"


def main() -> int:
    """Renew, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()
    project = ROOT / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        sys.exit(f"{project} has no place for the pins: put the lines {BEGIN!r} and {END!r} into [tool.uv]")
    if not options.check:
        project.write_text(written(text, []), encoding="utf-8")
        try:
            subprocess.run(["uv", "lock", "--upgrade"], cwd=ROOT, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            project.write_text(text, encoding="utf-8")
            sys.exit(f"the versions cannot be resolved, nothing was changed: {error}")
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
    new = written(text, pins(lock))
    if options.check:
        old, found = set(re.findall(r'^    "(.+==.+)",$', text, re.MULTILINE)), set(pins(lock))
        for one in sorted(old ^ found):
            print(f"{'only pinned' if one in old else 'only locked'}: {one}")
        return int(old != found)
    project.write_text(new, encoding="utf-8")
    print(f"{len(pins(lock))} pins written; now `uv sync --group dev` and run the tests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
