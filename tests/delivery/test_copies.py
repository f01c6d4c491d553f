"""Finished folders where people put them: in Finder, in git, in archives, on disks of other systems."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twinkeel.pipeline import strays
from twinkeel.pipeline.delivery import faults, manifest, outputs, signature
from twinkeel.pipeline.errors import DeviceError, VerifyError
from twinkeel.pipeline.files import digest
from twinkeel.pipeline.names import WINDOWS_DEVICES

DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "
DROPPED = {
    ".DS_Store": b"\0\0\0\1Bud1",
    "._weights.bin": DOUBLE,
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    "desktop.ini": b"[.ShellClassInfo]\r\n",
    ".directory": b"[Dolphin]\n",
    "Icon\r": b"",
    ".nfs00000000021b1e6e00000003": b"still open",
}


@pytest.fixture
def out(tmp_path, finish):
    """A build's output folder, its artifact a package; nothing that runs."""
    found, images = tmp_path / "out", np.arange(3 * 4 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4, 4)
    logits = images.reshape(3, -1)[:, :5].astype(np.float32)
    for platform in ("android", "ios"):
        package = found / platform / "toy" / "toy.mlpackage"
        package.mkdir(parents=True)
        (package / "Manifest.json").write_text('{\n "a": 1\n}\n')
        (package / "weights.bin").write_bytes(bytes(range(256)))
        (found / platform / "sdk" / "src").mkdir(parents=True)
        (found / platform / "sdk" / "src" / "Code.kt").write_text("val x = 1\n")
        (found / platform / manifest.ATTRIBUTES).write_bytes(manifest.AS_THEY_ARE)
        artifacts = [(f"{platform}/toy", "toy", "fp32", package, "fp32", "runtime")]
        finish(found / platform, artifacts, {"fp32": logits, "int8": logits}, ("one", "two", "three"), images)
    (found / "report.html").write_text("a report\nof lines\n")
    outputs.keep_line_ends(found, ["report.html"])
    outputs.write_index(found, ["report.html"])
    assert outputs.verify(found)
    return found


# ---- what other programs leave


@pytest.mark.parametrize("place", ["", "android", "android/sdk/src", "android/toy/toy.mlpackage"], ids=repr)
def test_what_file_managers_leave_is_passed_over_and_named(out, place, run_cli):
    folder, before = out / "android", digest(out / "android" / "toy" / "toy.mlpackage")
    counts = outputs.verify(out), manifest.verify(folder)
    for name, content in DROPPED.items():
        (out / place / name).write_bytes(content)
    assert (outputs.verify(out), manifest.verify(folder)) == counts
    assert digest(folder / "toy" / "toy.mlpackage") == before
    inside = [f"{place}/{name}".removeprefix("/") for name in sorted(DROPPED)]
    assert outputs.passed_over(out) == inside
    told = run_cli("verify", out)
    assert told.exit_code == 0 and told.output.count("passed over") == 1 and "and 2 more" in told.output, told.output
    assert "\r" not in told.output and "Icon\\r" in told.output
    if place.startswith("android"):
        assert "passed over" in run_cli("verify", folder).output
        assert manifest.hash_files(folder) == manifest.read_manifest(folder)["files"]


@pytest.mark.parametrize("name", ["__MACOSX", ".Spotlight-V100", ".Trashes", ".fseventsd"])
@pytest.mark.parametrize("place", ["", "ios"], ids=repr)
def test_their_folders_are_passed_over_at_the_top(out, name, place):
    (out / place / name / "deep").mkdir(parents=True)
    (out / place / name / "deep" / "x").write_text("x")
    assert outputs.verify(out) and outputs.passed_over(out) == [f"{place}/{name}".removeprefix("/")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sdk/src/__MACOSX/Code.kt", "val x = 2"),
        ("sdk/src/._Code.kt", "val x = 2"),
        ("toy/toy.mlpackage/.DS_Store/x", "x"),
        ("thumbs.db", "x"),
        (".DS_Store.kt", "x"),
        (".nfsx", "x"),
        ("sdk/.Trashes/x", "x"),
    ],
)
def test_what_only_looks_like_it_is_tampering(out, name, content):
    (out / "android" / name).parent.mkdir(parents=True, exist_ok=True)
    (out / "android" / name).write_text(content)
    with pytest.raises(VerifyError, match="unknown: "):
        manifest.verify(out / "android")
    with pytest.raises(VerifyError, match="unknown: "):
        outputs.verify(out)


@pytest.mark.parametrize("name", [".DS_Store", "__MACOSX", "sdk/Thumbs.db"])
def test_a_link_of_such_a_name_is_refused(out, name, tmp_path):
    (out / "android" / name).symlink_to(tmp_path)
    with pytest.raises(VerifyError, match="neither file nor folder"):
        manifest.verify(out / "android")


def test_a_signature_holds_with_them_and_a_folder_that_has_them_is_signed(out, tmp_path, run_cli):
    key, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
    secret, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(pem, form, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    (out / "ios" / ".DS_Store").write_bytes(b"\0")
    assert "passed over" in run_cli("sign", out / "ios", "--key", secret).output
    (out / "ios" / "sdk" / "Thumbs.db").write_bytes(b"\0")
    assert run_cli("verify", out / "ios", "--key", public).exit_code == 0
    signature.check(out / "ios", public)


def test_a_build_writes_over_them(out, tmp_path):
    (out / "android" / ".DS_Store").write_bytes(b"\0")
    outputs.check_place(out, ["android", "ios"], ["report.html"])
    shutil.rmtree(out / "ios")
    (out / "ios" / "__MACOSX").mkdir(parents=True)
    (out / "ios" / ".DS_Store").write_bytes(b"\0")  # Finder showed a folder that is gone
    outputs.check_place(out, ["android", "ios"], ["report.html"])
    staging = shutil.copytree(out / "android", tmp_path / "work" / "ios")
    outputs.replace_folder(staging, out / "ios", tmp_path / "work")
    assert manifest.verify(out / "ios")


def test_strays_are_files_of_these_names_alone(tmp_path):
    (tmp_path / "._x").write_bytes(b"")
    (tmp_path / "Icon").write_bytes(b"")
    found, dropped = strays.sorted_out(tmp_path)
    assert [path.name for path in found] == ["._x", "Icon"] and not dropped


# ---- git


def git(*arguments, cwd):
    config = ("user.name=a", "user.email=a@b.c", "core.autocrlf=true", "core.eol=crlf", "core.safecrlf=false")
    flags = [part for one in config for part in ("-c", one)]
    done = subprocess.run(["git", *flags, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def through_git(out, tmp_path):
    """`out` as a clone has it where line ends are converted on checkout."""
    origin = tmp_path / "origin"
    origin.mkdir()
    shutil.copytree(out, origin / "out")
    (origin / ".gitattributes").write_text("* text=auto eol=crlf\n")
    (origin / "note.txt").write_text("one\ntwo\n")
    git("init", "-q", cwd=origin)
    git("add", "-A", cwd=origin)
    git("commit", "-q", "-m", "a build", cwd=origin)
    git("clone", "-q", str(origin), str(tmp_path / "clone"), cwd=tmp_path)
    assert (tmp_path / "clone" / "note.txt").read_bytes() == b"one\r\ntwo\r\n"
    return tmp_path / "clone" / "out"


def test_a_clone_with_converted_line_ends_has_the_same_bytes(out, tmp_path):
    assert outputs.verify(through_git(out, tmp_path)) == outputs.verify(out)


def test_changed_line_ends_are_said(out, tmp_path, run_cli):
    for place in (out, out / "android", out / "ios"):
        (place / manifest.ATTRIBUTES).unlink()  # hidden files are left behind by some that copy folders
    assert outputs.verify(out)
    clone = through_git(out, tmp_path)
    told = str(run_cli("verify", clone).exception)
    for name in ("report.html", "manifest.json", "build.json", "sdk/src/Code.kt"):
        assert f"changed: {name} (its line ends alone)" in told, told
    assert "* -text" in told and "core.autocrlf" in told, told
    (out / "android" / "sdk" / "src" / "Code.kt").write_text("val x = 2\n")
    with pytest.raises(VerifyError) as caught:
        manifest.verify(out / "android")
    assert "line ends" not in str(caught.value)


def test_in_a_folder_of_the_users_own_git_does_as_he_says(out, tmp_path):
    place = shutil.copytree(out, tmp_path / "project")
    (place / manifest.ATTRIBUTES).unlink()
    (place / "main.c").write_text("int main;")
    outputs.keep_line_ends(place, ["report.html"])
    assert not (place / manifest.ATTRIBUTES).exists()
    (place / "main.c").unlink()
    (place / manifest.ATTRIBUTES).write_text("*.png binary\n")
    outputs.keep_line_ends(place, ["report.html"])
    outputs.write_index(place, ["report.html"])
    assert (place / manifest.ATTRIBUTES).read_text() == "*.png binary\n"
    assert manifest.ATTRIBUTES not in outputs.read_index(place)["files"]


# ---- archives


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_an_archive_is_named_and_what_comes_out_of_it_is_whole(kind, out, tmp_path, run_cli):
    (out / "android" / "empty").mkdir()
    archive = shutil.make_archive(str(tmp_path / "my build"), kind, out.parent, "out")
    for command in (("verify",), ("parity",), ("compare",), ("drift",), ("replay",)):
        told = str(run_cli(*command, archive).exception)
        assert "is a file, and a finished build is a folder. Unpack it: " in told, told
    todo = told.partition("Unpack it: ")[2]
    if kind == "gztar" or shutil.which("unzip"):
        subprocess.run(todo, shell=True, check=True, cwd=tmp_path, capture_output=True)
        unpacked = tmp_path / "my build-unpacked"
        assert f"Give '{unpacked / 'out' / 'android'}'" in str(run_cli("verify", unpacked).exception)
        (unpacked / "out" / "__MACOSX").mkdir()
        for path in unpacked.rglob("*"):
            path.chmod(0o777)
        assert outputs.verify(unpacked / "out") == outputs.verify(out)


def test_one_sentence_where_there_is_no_build(out, tmp_path, run_cli):
    for platform in ("android", "ios"):
        shutil.rmtree(out / platform)
    commands = (("verify", out), ("parity", out), ("compare", out), ("drift", out), ("replay", out))
    told = {str(run_cli(*command).exception) for command in commands}
    assert told == {f"'{out}' holds no finished build: it has no 'manifest.json'. `twinkeel build all` makes one."}
    nowhere = {str(run_cli(command, tmp_path / "nowhere").exception) for command in ("verify", "parity", "compare")}
    assert len(nowhere) == 1 and "does not exist" in nowhere.pop()
    assert "Give the folder" in str(faults.no_build(out / "report.html"))


# ---- other systems' disks


@pytest.mark.parametrize("platform", ["android", "ios"])
def test_names_are_good_on_every_disk(platform, fixed_build):
    folder = fixed_build.folders[platform]
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    assert len({name.lower() for name in names}) == len(names)
    for part in {part for name in names for part in name.split("/")}:
        assert part.isascii() and part.isprintable() and not set(part) & set('<>:"\\|?*'), part
        assert part.split(".")[0].lower() not in WINDOWS_DEVICES and not part.endswith((".", " ")), part
    assert max(map(len, names)) < 150


PURE = """
import os, sys
from pathlib import Path
out = Path(sys.argv[1]).resolve()
CHANGING = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.utime", "os.chmod", "os.truncate"}
def watch(event, arguments):
    names = [os.fsdecode(a) for a in arguments if isinstance(a, (str, bytes, os.PathLike))]
    if not any(str(out) in os.path.abspath(name) for name in names):
        return
    if event in CHANGING or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        print("WRITES", event, names, file=sys.stderr)
        raise OSError(30, "Read-only file system")
sys.addaudithook(watch)
from twinkeel.pipeline.cli import cli
from twinkeel.pipeline.store import Here, workers
workers.Workers = lambda number: Here()
for command in sys.argv[2:]:
    cli.main([part.replace("OUT", str(out)) for part in command.split()], standalone_mode=False)
"""


def test_nothing_is_written_where_folders_are_looked_at(fixed_build, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(fixed_build.folders["android"], out / "android")
    outputs.write_index(out, [])
    before = {path: path.stat().st_mtime_ns for path in (out, *out.rglob("*"))}
    commands = ("verify OUT", "verify OUT/android", "compare OUT", "parity OUT/android", "drift OUT")
    done = subprocess.run(
        [sys.executable, "-c", PURE, str(out), *commands],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in (out, *out.rglob("*"))} == before
    # drift alone tries, for its tables, and says where they could go
    assert done.stderr.count("WRITES") == 1 and "--tables names" in done.stderr, done.stderr


def test_a_replay_says_where_its_evidence_could_go_before_any_work(out, monkeypatch, run_cli):
    from twinkeel.pipeline.delivery import replay

    def refuse(dir=None, **_):
        if dir == out.resolve():  # the folders can be written, and what lists them cannot
            raise OSError(30, "Read-only file system")
        return contextlib.nullcontext()

    monkeypatch.setattr(replay.tempfile, "TemporaryFile", refuse)
    error = run_cli("replay", out).exception
    assert isinstance(error, DeviceError) and "cp -r" in str(error) and "twinkeel parity" in str(error)
