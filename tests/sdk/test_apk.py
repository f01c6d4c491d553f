"""An app of a kit's sample, as far as it can be made without Gradle: dexed and shrunk by R8, linked by aapt2, and looked into."""

from __future__ import annotations

import re
import struct
import subprocess
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from real.fetched import fetched
from real.platform import LOWEST
from twinkeel.targets.android import sdk

PACKAGE = "com.example.features.packed"
ANDROID, TOOLS = "{http://schemas.android.com/apk/res/android}", "{http://schemas.android.com/tools}"
LITERT_ASKS = ("android.permission.FOREGROUND_SERVICE", "android.permission.FOREGROUND_SERVICE_DATA_SYNC")
"""What LiteRT's own manifest asks for: litert/kotlin/src/main/AndroidManifest.xml of its repository at v2.2.0."""
STORED = ("tflite",)
"""What Android's Gradle plugin never compresses, from 4.1 on."""
PLATFORM = ("android/", "java/", "org/json/", "org/junit/", "androidx/test/")
"""Of the stubs, what no app holds."""

HARNESS = """\
# behind the stubs; no app has it
-dontwarn fakes.**
# the platform is here as far as kits use it, and Kotlin's libraries use more; what a kit asks for is looked up where it is compiled
-dontwarn android.**, dalvik.**, java.**, javax.**, sun.**, org.jetbrains.annotations.**, org.codehaus.**
"""


def manifest(app, library, runtime_asks, out):
    """The app's manifest, into which the permissions of its libraries are merged; `tools:node="remove"` takes them out."""
    ElementTree.register_namespace("android", ANDROID.strip("{}"))
    tree, removed = ElementTree.parse(app), set()
    root = tree.getroot()
    for one in [*root.findall("uses-permission"), *ElementTree.parse(library).getroot().findall("uses-permission")]:
        if one.get(f"{TOOLS}node") == "remove":
            removed.add(one.get(f"{ANDROID}name"))
    for one in root.findall("uses-permission"):
        if one.attrib.pop(f"{TOOLS}node", None) == "remove":
            root.remove(one)
    for name in runtime_asks:
        if name not in removed:
            ElementTree.SubElement(root, "uses-permission", {f"{ANDROID}name": name})
    root.set("package", f"{PACKAGE}.sample")
    tree.write(out)


def jar(path, folder, but=()):
    with zipfile.ZipFile(path, "w") as archive:
        for one in sorted(folder.rglob("*.class")):
            name = one.relative_to(folder).as_posix()
            if not name.startswith(but):
                # R8 3.3, which packages have, is older than sealed classes: an attribute of another name is passed over
                archive.writestr(name, one.read_bytes().replace(b"PermittedSubclasses", b"permittedSubclasses"))
    return path


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """(run R8's or D8's class, path of aapt2)."""
    bundletool, folder = fetched("bundletool.jar"), tmp_path_factory.mktemp("tools")
    with zipfile.ZipFile(bundletool) as archive:
        aapt2 = Path(archive.extract("linux/aapt2", folder))
    aapt2.chmod(0o755)

    def run(name, *arguments):
        java = ["java", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", str(bundletool)]
        command = [*java, f"com.android.tools.r8.{name}", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run, aapt2


@pytest.fixture(scope="module")
def built(kotlin, feature_contents, tmp_path_factory):
    """(the kit, jars of the sample, the library and of what stands for AndroidX and LiteRT)."""
    folder = tmp_path_factory.mktemp("app")
    sdk.write(feature_contents("android", "litert", "int8", package=PACKAGE), folder / "kit")
    kotlin.check(kotlin.libraries([folder / "kit" / "extractor"], folder / "library"))
    kotlin.check(kotlin.sample(folder / "kit", folder / "library", folder / "sample"))
    jars = [jar(folder / f"{name}.jar", folder / name) for name in ("sample", "library")]
    return folder / "kit", [*jars, jar(folder / "stubs.jar", kotlin.stubs, PLATFORM)]


def test_library_becomes_dex_of_the_lowest_level(tools, kotlin, built, tmp_path):
    run, _ = tools
    _, (_, library, stubs) = built
    paths = [part for path in (stubs, kotlin.stdlib, kotlin.coroutines) for part in ("--classpath", path)]
    finished = run("D8", "--min-api", LOWEST, "--lib", kotlin.platform.jar, *paths, "--output", tmp_path, library)
    assert finished.returncode == 0, finished.stderr
    assert not re.search(r"^(Warning|Error)", finished.stderr, re.MULTILINE), finished.stderr
    assert f"L{PACKAGE.replace('.', '/')}/FeatureExtractor;".encode() in (tmp_path / "classes.dex").read_bytes()


@pytest.fixture(scope="module")
def app(tools, kotlin, built, tmp_path_factory):
    """(path of the package, what R8 said)."""
    run, aapt2 = tools
    kit, program = built
    out = tmp_path_factory.mktemp("package")
    source = kit / "sample" / "src" / "main"
    manifest(
        source / "AndroidManifest.xml",
        kit / "extractor/src/main/AndroidManifest.xml",
        LITERT_ASKS,
        out / "AndroidManifest.xml",
    )
    script = (kit / "sample" / "build.gradle.kts").read_text("utf-8")
    stored = {*STORED, *re.findall(r'noCompress \+= "(\w+)"', script)}
    link = [
        aapt2,
        "link",
        "-I",
        fetched("framework-res.apk"),
        "--manifest",
        out / "AndroidManifest.xml",
        "-o",
        out / "app.apk",
    ]
    link += ["-A", kit / "extractor/src/main/assets", "--proguard", out / "aapt.pro", "--min-sdk-version", LOWEST]
    link += [part for suffix in sorted(stored) for part in ("-0", suffix)]
    subprocess.run([str(part) for part in link], check=True, capture_output=True, text=True)
    (out / "harness.pro").write_text(HARNESS)
    rules = [out / "aapt.pro", kit / "extractor" / "consumer-rules.pro", out / "harness.pro"]
    options = [part for path in rules for part in ("--pg-conf", path)]
    finished = run(
        *("R8", "--release", "--min-api", LOWEST, "--lib", kotlin.platform.jar, *options, "--output", out),
        *(*program, kotlin.stdlib, kotlin.coroutines),
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    with zipfile.ZipFile(out / "app.apk", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.write(out / "classes.dex", "classes.dex")
    return out / "app.apk", finished.stderr


def test_shrinking_keeps_what_native_code_looks_up(app):
    package, said = app
    print(said[-500:])
    dex = zipfile.ZipFile(package).read("classes.dex")
    kept = (
        "org/tensorflow/lite/Interpreter",
        "com/google/ai/edge/litert/CompiledModel",
        f"{PACKAGE.replace('.', '/')}/sample/MainActivity",
    )
    assert [name for name in kept if f"L{name};".encode() not in dex] == []
    # what nobody looks up bears another name: so the rules are not wider than they have to be
    assert f"L{PACKAGE.replace('.', '/')}/FeatureExtractor;".encode() not in dex
    print(f"{len(dex):,} bytes of dex")


def test_app_holds_the_model_as_it_is_and_asks_for_no_more_than_its_camera(app, tools, built):
    package, _ = app
    (model,) = (built[0] / "extractor/src/main/assets").rglob("*.tflite")
    with zipfile.ZipFile(package) as archive:
        entry = archive.getinfo(f"assets/{PACKAGE}/{model.name}")
        assert entry.compress_type == zipfile.ZIP_STORED and archive.read(entry) == model.read_bytes()
    badging = subprocess.run(
        [str(tools[1]), "dump", "badging", str(package)], capture_output=True, text=True, check=True
    ).stdout
    # the sample's own, for its live preview; nothing of the runtime's
    assert re.findall(r"uses-permission: name='(.*)'", badging) == ["android.permission.CAMERA"]
    assert f"minSdkVersion:'{LOWEST}'" in badging or f"sdkVersion:'{LOWEST}'" in badging
    assert f"launchable-activity: name='{PACKAGE}.sample.MainActivity'" in badging


def test_permissions_of_the_runtime_are_merged_where_nothing_removes_them(built, tmp_path):
    app = built[0] / "sample/src/main/AndroidManifest.xml"
    without = tmp_path / "plain.xml"
    without.write_text(re.sub(r"\s*<uses-permission[^>]*/>", "", app.read_text("utf-8")))
    empty = tmp_path / "library.xml"
    empty.write_text("<manifest />")
    manifest(without, empty, LITERT_ASKS, tmp_path / "merged.xml")
    merged = ElementTree.parse(tmp_path / "merged.xml").getroot()
    assert [one.get(f"{ANDROID}name") for one in merged.findall("uses-permission")] == list(LITERT_ASKS)


def test_native_library_of_the_runtime_is_aligned_to_16_kb():
    """Of ExecuTorch as react-native-executorch 0.8.5 has it, the only one of the runtimes' that is in a package."""
    content = fetched("libexecutorch.so").read_bytes()
    assert content[:5] == b"\x7fELF\x02"
    (offset,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", content, offset + number * size) for number in range(count)]
    aligned = [header[-1] for header in headers if header[0] == 1]
    assert aligned and all(alignment % 16384 == 0 for alignment in aligned), aligned
