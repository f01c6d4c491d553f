"""A stand-in for adb: phones that a file describes, whose shell is this machine's, in a folder of its own.

The folder that `FAKE_ADB` names holds ``state.json``, ``tmp`` (the phone's /data/local/tmp) and ``bin`` (the phone's own programs). A
program that is pushed is an ELF head with a script behind it; the script is what runs there. Exit codes of the phone's commands
are not passed on, as old phones do not.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HOME = Path(os.environ["FAKE_ADB"])
SCRIPT = b"\n--script--\n"
TEMPORARY = "/data/local/tmp"


def told(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def lost(serial):
    sys.stderr.write(f"error: device '{serial}' not found\n")
    sys.exit(1)


def main(arguments, state):
    with (HOME / "calls").open("a") as stream:
        stream.write(json.dumps(arguments) + "\n")
    if arguments[:1] == ["devices"]:
        told("* daemon not running; starting now at tcp:5037\n* daemon started successfully\nList of devices attached\n")
        told("" if (HOME / "gone").exists() else state["devices"])
        told("\n")
        return
    assert arguments[0] == "-s", arguments
    serial, kind, *rest = arguments[1:]
    if (HOME / "gone").exists():
        lost(serial)
    if kind == "push":
        source, place = rest
        content = Path(source).read_bytes()
        target = HOME / "tmp" / Path(place).relative_to(TEMPORARY)
        if "no_space" in state and state["no_space"] in Path(source).name:
            sys.stderr.write(f"adb: error: failed to copy '{source}' to '{place}': remote write failed: No space left on device\n")
            sys.exit(1)
        target.write_bytes(content.partition(SCRIPT)[2] or content)
        return
    assert kind == "shell", arguments
    (command,) = rest
    if state.get("lose_at") and state["lose_at"] in command:
        (HOME / "gone").touch()
        lost(serial)
    path = f"{HOME / 'bin'}:{os.environ['PATH']}"
    here = str(HOME / "tmp")
    done = subprocess.run(
        ["/bin/sh", "-c", command.replace(TEMPORARY, here)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={"PATH": path, "FAKE_ADB": str(HOME)},
        check=False,
    )
    output = done.stdout.decode().replace(here, TEMPORARY)
    told(output[: len(output) // 2] if state.get("cut_at") and state["cut_at"] in command else output)


main(sys.argv[1:], json.loads((HOME / "state.json").read_text()))
