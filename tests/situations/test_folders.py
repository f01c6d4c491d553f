"""Finished folders, where people put them and what other tools leave in them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest
from situations import situation
from twinkeel.pipeline.delivery import manifest
from twinkeel.pipeline.errors import VerifyError

GIT = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def folder(tmp_path, finish):
    """A finished folder with one artifact, which nothing runs."""
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 4), np.uint8)
    expected = {name: np.arange(6, dtype=np.float32).reshape(2, 3) for name in ("fp32", "int8")}
    path = tmp_path / "out" / "android" / "model.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(range(256)) * 4)
    artifacts = [("android/toy", "toy", "fp32", path, "fp32", "runtime")]
    finish(path.parent, artifacts, expected, ("a", "b"), images)
    (path.parent / "README.md").write_bytes(b"# Small\n\nIt has lines.\n")
    (path.parent / manifest.ATTRIBUTES).write_bytes(manifest.AS_THEY_ARE)
    content = manifest.read_manifest(path.parent)
    manifest.write(content | {"files": manifest.hash_files(path.parent)}, path.parent / manifest.MANIFEST)
    return path.parent


def refused(folder, *words):
    """Check that it is one error, which names the folder and these words."""
    with pytest.raises(VerifyError) as raised:
        manifest.verify(folder)
    text = str(raised.value)
    assert str(folder) in text and len(text) < 3000, text
    assert [word for word in words if not re.search(word, text, re.IGNORECASE)] == [], text


@situation("`.DS_Store` and `Thumbs.db` in it", "passed over", reported="apple/turicreate#641")
def test_files_of_file_managers(folder):
    known = manifest.verify(folder)
    for name in (".DS_Store", "golden/.DS_Store", "Thumbs.db", "golden/desktop.ini"):
        (folder / name).write_bytes(b"\0\0\0\1Bud1")
    assert manifest.verify(folder) == known


@situation(
    "`._model.bin` beside each file, of a Mac's disk that is not its own",
    "passed over",
    reported="BowlerHatLLC/vscode-as3mxml#830",
)
def test_files_of_macs(folder):
    known = manifest.verify(folder)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7" + bytes(100))
    assert manifest.verify(folder) == known


@situation("zipped by a Mac and unzipped elsewhere: `__MACOSX` in it", "passed over", reported="sindresorhus/junk#21")
def test_zipped_by_a_mac(folder):
    known = manifest.verify(folder)
    (folder / "__MACOSX" / "golden").mkdir(parents=True)
    (folder / "__MACOSX" / "._model.bin").write_bytes(b"\0\5\x16\7" + bytes(100))
    (folder / "__MACOSX" / "golden" / "._a.png").write_bytes(b"\0\5\x16\7" + bytes(100))
    assert manifest.verify(folder) == known


@situation("any other file that a build did not make", "refused, named")
def test_a_foreign_file(folder):
    for name in ("notes.txt", "DS_Store", ".DS_Store.txt", "model (1).bin"):
        (folder / name).write_bytes(b"x")
        refused(folder, f"unknown: {re.escape(name)}")
        (folder / name).unlink()


@situation("zipped and unzipped, or packed with tar", "as it was")
def test_packed(folder, tmp_path):
    known = manifest.verify(folder)
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    shutil.make_archive(str(tmp_path / "packed"), "gztar", folder)
    with zipfile.ZipFile(tmp_path / "packed.zip") as archive:
        archive.extractall(tmp_path / "from zip")
    with tarfile.open(tmp_path / "packed.tar.gz") as archive:
        archive.extractall(tmp_path / "from tar", filter="data")
    assert manifest.verify(tmp_path / "from zip") == manifest.verify(tmp_path / "from tar") == known


@situation("the zip archive itself, given to `verify`", "refused: unpack it")
def test_the_archive_itself(folder, tmp_path):
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    refused(tmp_path / "packed.zip", "unpack|unzip")


def cloned(folder, tmp_path):
    """Committed to git, and checked out again by somebody whose git changes line ends."""
    for command in (
        ["git", "init", "-q", "."],
        ["git", "-c", "core.autocrlf=false", "add", "-A"],
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "A build"],
    ):
        subprocess.run(command, cwd=folder.parent, check=True, capture_output=True)
    there = tmp_path / "clone"
    command = ["git", "clone", "-q", "--config", "core.autocrlf=true", str(folder.parent), str(there)]
    subprocess.run(command, check=True, capture_output=True)
    return there / folder.name


@GIT
@situation(
    "kept in git, which changes line ends (`core.autocrlf`)",
    "as it was: a build writes `.gitattributes`",
    reported="ruvnet/RuView#1519",
)
def test_line_ends_in_git(folder, tmp_path):
    known = manifest.verify(folder)
    assert manifest.verify(cloned(folder, tmp_path)) == known


@situation(
    "line ends that were changed all the same",
    "refused, and said what happened",
    reported="m00nl1ght-dev/MapPreview#10",
)
def test_line_ends_that_were_changed(folder):
    path = folder / "README.md"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    refused(folder, "changed: README.md", "line ends|CRLF")


@situation(
    "git's pointers in the artifacts' place (`git lfs`)", "refused: `git lfs pull`", reported="zugaldia/speedofsound#93"
)
def test_pointers_of_git(folder):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0f" * 32 + b"\nsize 1024\n"
    (folder / "model.bin").write_bytes(pointer)
    refused(folder, "changed: model.bin", "git lfs pull")


@situation(
    "files of 0 bytes, which a cloud's disk has not fetched",
    "refused, and said that they are empty",
    reported="owncloud/client#11107",
)
def test_files_that_were_not_fetched(folder):
    (folder / "model.bin").write_bytes(b"")
    refused(folder, "changed: model.bin", "empty|0 bytes")
