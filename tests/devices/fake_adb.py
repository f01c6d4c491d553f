"""A stand-in for adb: phones that a file describes, whose shell is this machine's, in a folder of its own.

The folder that `FAKE_ADB` names holds ``state.json``, ``tmp`` (the phone's /data/local/tmp) and ``bin`` (the phone's own programs). A
program that is pushed is an ELF head with a script behind it; the script is what runs there. Exit codes of the phone's commands
are not passed on, as old phones do not. It is started hundreds of times, and imports little.
"""

import json
import os
import sys

HOME = os.environ["FAKE_ADB"]
SCRIPT = b"\n--script--\n"
TEMPORARY = "/data/local/tmp"
HERE = f"{HOME}/tmp"


def told(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def lost(serial):
    sys.stderr.write(f"error: device '{serial}' not found\n")
    sys.exit(1)


def main(arguments, state):
    with open(f"{HOME}/calls", "a") as stream:  # noqa: PTH123
        stream.write(json.dumps(arguments) + "\n")
    is_gone = os.path.exists(f"{HOME}/gone")  # noqa: PTH110
    if arguments[:1] == ["devices"]:
        told(
            "* daemon not running; starting now at tcp:5037\n* daemon started successfully\nList of devices attached\n"
        )
        told("" if is_gone else state["devices"])
        told("\n")
        return
    assert arguments[0] == "-s", arguments
    serial, kind, *rest = arguments[1:]
    if is_gone:
        lost(serial)
    if kind == "push":
        push(*rest, state.get("no_space"))
        return
    assert kind == "shell", arguments
    (command,) = rest
    if state.get("lose_at") and state["lose_at"] in command:
        open(f"{HOME}/gone", "w").close()  # noqa: PTH123
        lost(serial)
    output = shell(command.replace(TEMPORARY, HERE)).replace(HERE, TEMPORARY)
    told(output[: len(output) // 2] if state.get("cut_at") and state["cut_at"] in command else output)


def push(source, place, no_space):
    if no_space and no_space in source:
        sys.stderr.write(
            f"adb: error: failed to copy '{source}' to '{place}': remote write failed: No space left on device\n"
        )
        sys.exit(1)
    with open(source, "rb") as given, open(place.replace(TEMPORARY, HERE), "wb") as taken:  # noqa: PTH123
        content = given.read()
        taken.write(content.partition(SCRIPT)[2] or content)


def shell(command):
    """What the phone's shell prints; its errors go nowhere."""
    ours, theirs = os.pipe()
    nothing = os.open(os.devnull, os.O_RDWR)
    environment = {"PATH": f"{HOME}/bin:/usr/bin:/bin", "FAKE_ADB": HOME}
    actions = [(os.POSIX_SPAWN_DUP2, number, stream) for stream, number in ((0, nothing), (1, theirs), (2, nothing))]
    os.posix_spawn("/bin/sh", ["sh", "-c", command], environment, file_actions=actions)
    os.close(theirs)
    with os.fdopen(ours) as stream:
        return stream.read()


main(sys.argv[1:], json.load(open(f"{HOME}/state.json")))  # noqa: PTH123, SIM115
