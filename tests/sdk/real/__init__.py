"""What the platforms and the runtimes really have, as text beside this file, and the checks that hold the kits and the stubs to it."""

from pathlib import Path

HERE = Path(__file__).parent
FETCHED = HERE.parents[2] / ".nox" / "real"
"""What `fetch.py` gets of public packages."""
