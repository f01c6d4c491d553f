"""What is an image below a folder or in an archive, and what is not."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import stat
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from twinkeel.pipeline.data.archives import FREE_BYTES, opened
from twinkeel.pipeline.data.files import ImageFile, digests, listed
from twinkeel.pipeline.errors import DataError


def png(value=7, size=(8, 8), kind="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", size, (value, 2 * value % 256, 3)).save(stream, kind)
    return stream.getvalue()


MEMBERS = {"a/0.png": png(0), "a/1.png": png(1), "b/c/2.png": png(2), "b/readme.txt": b"hello", "b/0.npz": b"x"}


def write(kind, root, members=MEMBERS):
    """A folder, or an archive of the kind."""
    path = root / ("data" if kind == "folder" else f"data{kind}")
    if kind == "folder":
        for name, content in members.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif kind == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if "g" in kind else "w") as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(f"./{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


KINDS = ("folder", ".zip", ".tar", ".tar.gz", ".tgz")


@pytest.mark.parametrize("kind", KINDS)
def test_folders_and_archives_have_the_same_files(kind, tmp_path):
    found = listed(write(kind, tmp_path))
    assert [file.name for file in found.files] == ["a/0.png", "a/1.png", "b/c/2.png"]
    assert [file.read() for file in found.files] == [png(0), png(1), png(2)]
    assert [file.name for file in found.tensors] == ["b/0.npz"] and found.passed == {".txt": 1}
    assert found.folders == ("", "a", "b", "b/c")
    assert [file.name for file in found.below("b")] == ["b/c/2.png"]
    assert ImageFile(found.root, "b/0.png").beside(".npz") == found.tensors[0]
    assert found.files[0].beside(".npz") is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_changes_the_hashes(kind, tmp_path):
    before = digests(listed(write(kind, tmp_path)).files)
    assert before == digests(listed(write(kind, tmp_path)).files) or "g" in kind  # gzip has the time inside
    assert before != digests(listed(write(kind, tmp_path, MEMBERS | {"a/1.png": png(9)})).files)


def test_a_file_travels_to_another_process(tmp_path):
    file = listed(write(".zip", tmp_path)).files[1]
    assert pickle.loads(pickle.dumps(file)).read() == png(1)


def test_what_systems_leave_behind_is_not_even_counted(tmp_path):
    more = ("__MACOSX/a/._0.png", "a/.DS_Store", "a/Thumbs.db", "a/desktop.ini", ".git/x.png", "a/._0.png")
    for kind in ("folder", ".zip"):
        found = listed(write(kind, tmp_path, MEMBERS | dict.fromkeys(more, png())))
        assert [file.name for file in found.files] == ["a/0.png", "a/1.png", "b/c/2.png"], kind
        assert found.passed == {".txt": 1} and found.folders == ("", "a", "b", "b/c")


@pytest.mark.parametrize(
    ("name", "content", "is_image"),
    [
        ("x", png(), True),
        ("x.data", png(kind="JPEG"), True),
        ("x.0", png(kind="WEBP"), True),
        ("x.b", png(kind="BMP"), True),
        ("x.txt", b"BM is how this begins", False),
        ("x.txt", b"", False),
        ("x.md", b"\n\0", False),
        ("x.dng", png(kind="TIFF"), False),
        ("x.png", b"no image, but called as one", True),
        ("X.JPG", b"", True),
        ("x.xml", b"<annotation/>", False),
    ],
)
def test_files_are_images_by_name_or_by_content(name, content, is_image, tmp_path):
    for kind in ("folder", ".zip", ".tar"):
        (tmp_path / kind).mkdir()
        found = listed(write(kind, tmp_path / kind, {name: content, "y.png": png()}))
        assert (name in [file.name for file in found.files]) == is_image, kind
        assert sum(found.passed.values()) == (not is_image)


def test_links_are_followed_and_each_folder_is_read_once(tmp_path):
    root = write("folder", tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "3.png").write_bytes(png(3))
    (root / "0-first").symlink_to("a")  # before the folder itself in the order of names
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "d").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "up").symlink_to("../..")
    (root / "a" / "4.png").symlink_to("0.png")
    (root / "a" / "5.png").symlink_to("nothing")
    found = listed(root)
    assert [f.name for f in found.files] == ["a/0.png", "a/1.png", "a/4.png", "b/c/2.png", "c/3.png"]
    assert found.passed == {".txt": 1, "link to a folder that is read already": 3, "link to nothing": 1}


def test_a_folder_that_cannot_be_looked_into_is_an_error(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match=r"cannot list .* PermissionError"):
        listed(tmp_path)


def test_backslashes_of_windows_part_folders(tmp_path):
    zip_with(tmp_path / "x.zip", "cats\\tabby\\1.png", content=png())
    found = listed(tmp_path / "x.zip")
    assert [file.name for file in found.files] == ["cats/tabby/1.png", "good.png"]
    assert found.files[0].read() == png()


def zip_with(path, name, mode=0, content=b"x", flag=0):
    info = zipfile.ZipInfo("x")
    info.filename, info.external_attr = name, mode << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.png", png())
        archive.writestr(info, content)
    if flag:
        whole = bytearray(path.read_bytes())
        for mark, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
            whole[whole.rindex(mark) + at] |= flag
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("../x.png", {}, "a path out of it"),
        ("a/../../x.png", {}, "a path out of it"),
        ("/etc/x.png", {}, "a path out of it"),
        ("C:/x.png", {}, "a path out of it"),
        ("..\\x.png", {}, "a path out of it"),
        ("a\\..\\..\\x.png", {}, "a path out of it"),
        ("\\\\server\\x.png", {}, "a path out of it"),
        ("x.png", {"mode": stat.S_IFLNK | 0o777, "content": b"/etc/passwd"}, "a link"),
        ("x.png", {"flag": 1}, "encrypted"),
        ("more.zip", {}, "an archive itself"),
        ("a/MORE.TAR.GZ", {}, "an archive itself"),
        ("good.png", {}, "there twice"),
        ("./good.png", {}, "there twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zips_with_what_is_no_file_below_them_are_refused(name, more, told, tmp_path):
    zip_with(tmp_path / "x.zip", name, **more)
    with pytest.raises(DataError, match=told) as raised:
        listed(tmp_path / "x.zip")
    assert "Unpack it yourself" in str(raised.value) and len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("x.png", tarfile.SYMTYPE, "a link"),
        ("x.png", tarfile.LNKTYPE, "a link"),
        ("x.png", tarfile.CHRTYPE, "no plain file"),
        ("x.png", tarfile.FIFOTYPE, "no plain file"),
        ("../x.png", tarfile.REGTYPE, "a path out of it"),
        ("/x.png", tarfile.REGTYPE, "a path out of it"),
        ("x.tgz", tarfile.REGTYPE, "an archive itself"),
    ],
)
@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_tars_with_what_is_no_file_below_them_are_refused(name, kind, told, suffix, tmp_path):
    with tarfile.open(tmp_path / f"x{suffix}", "w:gz" if suffix == ".tgz" else "w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match=told):
        listed(tmp_path / f"x{suffix}")


def test_archives_that_unpack_to_far_more_than_they_are_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.bmp", bytes(FREE_BYTES // 2))
    with gzip.open(tmp_path / "x.tar.gz", "wb", 1) as stream:
        for _ in range(FREE_BYTES // 2**20 + 1):
            stream.write(bytes(2**20))
    for name in ("x.zip", "x.tar.gz"):
        with pytest.raises(DataError, match="over 200 times as many"):
            opened(tmp_path / name)


def test_a_member_that_is_larger_than_it_says_is_damaged(tmp_path):
    path = write(".zip", tmp_path)
    whole = bytearray(path.read_bytes())
    at = whole.index(b"PK\1\2")
    whole[at + 24 : at + 28] = (20).to_bytes(4, "little")
    path.write_bytes(whole)
    file = ImageFile(path, "a/0.png")
    with pytest.raises(OSError, match="damaged"):
        file.read()


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz"])
def test_an_archive_that_ends_early_is_named(kind, tmp_path):
    path = write(kind, tmp_path, {f"{n}.png": np.random.default_rng(n).bytes(3000) for n in range(9)})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises((DataError, OSError), match=r"data\.|ends within|damaged"):
        for file in listed(path).files:
            file.read()


def test_something_else_under_the_name_of_an_archive(tmp_path):
    for name in ("x.zip", "x.tar", "x.tgz"):
        (tmp_path / name).write_bytes(b"<html>404 Not Found</html>" * 100)
        with pytest.raises(DataError, match=r"cannot read the archive .* Is the download whole"):
            listed(tmp_path / name)
