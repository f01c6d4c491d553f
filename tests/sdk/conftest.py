"""Compilers, kits and the modules that the tests of both platforms share."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from real import FETCHED, androidx, apple
from real.platform import Platform, described
from twinkeel.pipeline.delivery.manifest import Golden
from twinkeel.pipeline.parity.limits import Limit

KOTLIN_STUBS = Path(__file__).parent / "stubs" / "android"
KOTLIN_SERVER = Path(__file__).parent / "compilers" / "KotlinServer.java"

EVERY_METRIC = (  # the reference itself keeps to all
    Limit(metric="equal_logits", sense=">=", value=1, reason=""),
    Limit(metric="max_error", sense="<=", value=1e-6, reason=""),
    Limit(metric="max_steps", sense="<=", value=0, reason=""),
    Limit(metric="snr_db", sense=">=", value=100, reason=""),
    Limit(metric="snr_loss_db", sense="<=", value=0.001, reason=""),
)
FEATURE_OUTPUTS = (("embedding", (6,), 0.25), ("heat_map", (2, 3, 4), 0.5))
"""(name, shape, step) each."""
FEATURE_INPUTS = (("camera_pose", (2, 3), -2.0, 2.0),)
"""(name, shape, low, high) each."""
SUFFIXES = {"litert": "tflite", "executorch": "pte", "coreml": "mlpackage", "coreai": "aimodel"}
FOLDERS = {"coreml": "Manifest.json", "coreai": "main.mlirb"}
"""A file of each artifact that is a folder."""


def pytest_report_header():
    """What is real, and what are stubs, of which version."""
    return [
        *described(),
        f"stubs, compared: {' '.join(line[2:] for line in androidx.TEXT.read_text('utf-8').splitlines()[:4])}",
        f"stubs, compared with nothing: {len(androidx.UNCOMPARED)} names of AndroidX; SwiftUI and what else of Apple's is Swift's alone",
    ]


@pytest.fixture(scope="session")
def kit_contents(fixed_build):
    """Contents of a kit of the default build, by platform and sections of the configuration."""
    from twinkeel.pipeline.config import Config
    from twinkeel.pipeline.delivery import manifest, sdk

    def make(platform, **sections):
        config, folder = Config.model_validate(sections), fixed_build.folders[platform]
        settings = config.android if platform == "android" else config.ios
        pair = f"{platform}/{settings.sdk}", settings.sdk_precision
        content, golden = manifest.read_manifest(folder), manifest.read_golden(folder / "golden")
        return sdk.contents(config, content, golden, folder, pair)

    return make


@pytest.fixture(scope="session")
def oblong_contents(kit_contents):
    """The same of a model whose input is neither square nor even, 45 rows of 31 columns, and holds whole images; its golden
    images are drawn."""
    from twinkeel.pipeline.delivery import sdk

    def make(platform, **sections):
        contents = kit_contents(platform, **sections)
        inputs = np.random.default_rng(0).integers(0, 256, (len(contents.golden.names), 45, 31, 4), np.uint8)
        inputs[..., 3] = 255
        golden = replace(contents.golden, inputs=inputs)
        pixels = sdk.pixel_cases(45, 31, "letterbox")
        return replace(contents, height=45, width=31, fit="letterbox", golden=golden, pixels=pixels)

    return make


@pytest.fixture(scope="session")
def feature_contents(tmp_path_factory):
    """Contents of a kit of features, made by hand: inputs of 9 rows of 7 columns, outputs on their int8 steps. A kit of Core AI takes Core
    ML along where its oldest iOS is an older one."""

    def make(platform, runtime, precision, outputs=FEATURE_OUTPUTS, inputs=FEATURE_INPUTS, **settings):
        import tflites
        from twinkeel.pipeline.config import Android, Ios, Project
        from twinkeel.pipeline.delivery import sdk

        has_earlier = runtime == "coreai" and settings.get("minimum_deployment_target") != "iOS27"
        earlier = make(platform, "coreml", precision, outputs, inputs, **settings) if has_earlier else None
        rng, names = np.random.default_rng(1), ("first", "second", "third")
        outputs = tuple(sdk.Output(name=name, shape=shape, scale=scale) for name, shape, scale in outputs)
        inputs = tuple(sdk.Tensor(name=name, shape=shape, low=low, high=high) for name, shape, low, high in inputs)
        reference = np.concatenate(
            [rng.integers(-100, 100, (len(names), o.size)) * np.float32(o.scale) for o in outputs], 1
        ).astype(np.float32)
        noisy = (reference * (1 + 0.01 * rng.normal(size=reference.shape))).astype(np.float32)
        images = rng.integers(0, 256, (len(names), 9, 7, 4), np.uint8)
        images[..., 3] = 255
        artifact = tmp_path_factory.mktemp("artifact") / f"toy-{precision}.{SUFFIXES[runtime]}"
        if runtime in FOLDERS:
            artifact.mkdir()
        file = artifact / FOLDERS[runtime] if runtime in FOLDERS else artifact
        if runtime == "litert":
            tflites.write(file, [(one.shape, one.scale) for one in outputs], is_int8=precision == "int8")
        else:
            file.write_text("a stub's model")
        section = Android if platform == "android" else Ios
        return sdk.Contents(
            task="features",
            project=Project(name="toy"),
            settings=section(sdk=runtime, sdk_precision=precision, **settings),
            labels=(),
            outputs=outputs,
            inputs=inputs,
            height=9,
            width=7,
            fit="crop",
            target=f"{platform}/{runtime}",
            precision=precision,
            artifact=artifact,
            sha256="5" * 64,
            bytes=file.stat().st_size,
            reference="int8",
            limits=EVERY_METRIC,
            state="verified",
            counted_before=(),
            counted=(),
            doubts=(),
            golden=Golden(
                names=names,
                inputs=images,
                expected={"fp32": noisy, "int8": reference},
                tensors={t.name: rng.uniform(t.low, t.high, (len(names), *t.shape)).astype(np.float32) for t in inputs},
            ),
            categories=(),
            pixels=sdk.pixel_cases(9, 7),
            earlier=earlier,
        )

    return make


@pytest.fixture(scope="session")
def detector_contents(feature_contents):
    """The same of a kit of a detector of `detectors.DETECTORS`, whose input has 48 rows of 32 columns."""
    from detectors import DETECTORS, drawn, formed

    def make(platform, runtime, precision, detector, labels=("cat", "dog", 'a "hat"'), score=0.2, **settings):
        from twinkeel.pipeline.delivery import sdk
        from twinkeel.pipeline.delivery.boxes import Boxes

        declared, shapes = DETECTORS[detector]
        outputs = [(one["name"], shape, 0.25) for one, shape in zip(declared, shapes, strict=True)]
        contents = feature_contents(platform, runtime, precision, outputs, (), **settings)
        rows = [np.concatenate([one.reshape(-1) for one in drawn(shapes, 3 * seed)]) for seed in range(3)]
        reference = (np.round(np.stack(rows) / 0.25) * 0.25).astype(np.float32)
        images = np.random.default_rng(0).integers(0, 256, (3, 48, 32, 4), np.uint8)
        images[..., 3] = 255
        golden = replace(contents.golden, inputs=images, expected={"fp32": reference * 1.001, "int8": reference})
        return replace(
            contents,
            task="detection",
            labels=tuple(labels),
            height=48,
            width=32,
            golden=golden,
            pixels=sdk.pixel_cases(48, 32, contents.fit),
            boxes=Boxes.of(formed(declared, shapes, score=score), contents.outputs, reference),
        )

    return make


@pytest.fixture(scope="session")
def segmenter_contents(feature_contents):
    """The same of a kit of a segmentation network, whose input has 40 rows of 56 columns, and whose logits 3 of 4."""

    def make(platform, runtime, precision, labels=("background", "cat", 'a "hat"'), fit="crop", **settings):
        from twinkeel.pipeline.delivery import sdk
        from twinkeel.pipeline.delivery.masks import Masks

        outputs = (("logits", (len(labels), 3, 4), 0.25),)
        contents = feature_contents(platform, runtime, precision, outputs, (), **settings)
        images = np.random.default_rng(0).integers(0, 256, (3, 40, 56, 4), np.uint8)
        images[..., 3] = 255
        return replace(
            contents,
            task="segmentation",
            labels=tuple(labels),
            height=40,
            width=56,
            fit=fit,
            golden=replace(contents.golden, inputs=images),
            pixels=sdk.pixel_cases(40, 56, fit),
            masks=Masks.of(contents.outputs, (40, 56), contents.golden.expected["int8"]),
        )

    return make


@pytest.fixture(scope="session")
def resizing():
    """The module `resizing.py` beside this file."""
    path = Path(__file__).with_name("resizing.py")
    spec = importlib.util.spec_from_file_location("resizing", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiler(variable, name):
    """Path of a compiler; without one the test is skipped, and fails where all compilers must be there."""
    found = os.environ.get(variable) or shutil.which(name)
    if found:
        return Path(found)
    if os.environ.get("CI"):
        pytest.fail(f"no {name}: put it on PATH or set {variable}")
    return pytest.skip(f"no {name}: put it on PATH or set {variable}")


@pytest.fixture(scope="session")
def kotlinc():
    return compiler("TWINKEEL_KOTLINC", "kotlinc")


class Kotlin:
    """The compiler, the libraries that come with it, and what kits are compiled against and run with.

    They see the platform as it is: Android's classes and its Java's, written from their signatures in `real/`. On the JVM stubs run in
    their place, which have code; so have those of the runtimes and of AndroidX, which the compiler reads, too.
    """

    def __init__(self, kotlinc, folder):
        self.stubs, self.platform = folder / "classes", Platform(folder / "platform.jar")
        libraries = kotlinc.resolve().parent.parent / "lib"
        names = ("kotlin-stdlib", "kotlinx-coroutines-core-jvm", "kotlin-test", "kotlin-test-junit")
        self.stdlib, self.coroutines, self.test, self.junit = (libraries / f"{name}.jar" for name in names)
        compiler = [
            str(libraries / "kotlin-compiler.jar"),
            str(self.stdlib),
        ]  # names the others that it needs by itself
        java = [str(path) for path in sorted((KOTLIN_STUBS / "java").rglob("*.java"))]
        for out, path, sources in ((self.stubs, [], java), (folder / "server", compiler, [KOTLIN_SERVER])):
            path = ["-cp", os.pathsep.join(path)] if path else []
            subprocess.run(["javac", "-encoding", "UTF-8", *path, "-d", str(out), *map(str, sources)], check=True)
        # compiled code of a long session is more than the 48 MiB that there are without a word: the JVM would interpret from then on
        options = ("-Xmx1g", "-XX:ReservedCodeCacheSize=256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        path = os.pathsep.join([str(folder / "server"), *compiler])
        # answers have a pipe of their own, for the JVM itself writes to the standard output, too
        answers, given = os.pipe()
        self.server = subprocess.Popen(
            ["java", *options, "-Dfile.encoding=UTF-8", "-cp", path, KOTLIN_SERVER.stem, f"/dev/fd/{given}"],
            stdin=subprocess.PIPE,
            stdout=2,
            pass_fds=[given],
        )
        os.close(given)
        self.answers = os.fdopen(answers, "rb")
        self.check(self.compile(self.stubs, [KOTLIN_STUBS / "kotlin"], [self.stubs]))

    def close(self):
        self.server.communicate()
        self.answers.close()

    def compile(self, out, sources, classpath, *options):
        """Compile `sources` with warnings as errors; the finished process, as if it were one by itself.

        Classes that ask for something which the lowest API level does not have, and not behind a question for the level of the
        running system, are an error too, as lint makes it of an app's.
        """
        path = os.pathsep.join(map(str, [self.platform.jar, self.stdlib, self.coroutines, *classpath]))
        arguments = [
            *("-no-stdlib", "-no-reflect", "-no-jdk", "-jvm-target", "17", "-Werror", "-progressive"),
            *(*options, "-cp", path, "-d", str(out), *map(str, sources)),
        ]
        self.server.stdin.write("\t".join(arguments).encode() + b"\n")
        self.server.stdin.flush()
        answer = self.answers.readline()
        assert answer, f"the compiler's process has ended: {self.server.wait()}"
        code, size = map(int, answer.split())
        said = self.answers.read(size).decode()
        if not code and out != self.stubs:
            absent = [*self.platform.absent(out, [path for path in classpath if path.is_dir()])]
            code, said = bool(absent), "\n".join([said, *absent])
        return subprocess.CompletedProcess(arguments, code, "", said)

    def library(self, kit, out):
        """Compile a kit's library, as its own build does."""
        return self.libraries([kit / "classifier"], out)

    def libraries(self, modules, out):
        """Compile the libraries of several kits, which lie in different packages, at once."""
        sources = [module / "src" / "main" / "kotlin" for module in modules]
        return self.compile(out, sources, [self.stubs], "-module-name", "library", "-Xexplicit-api=strict")

    def tests(self, kit, library, out, *others):
        """Compile a kit's own tests, which see what is internal to the library, and `others` with them."""
        return self.tests_of([kit / "classifier"], library, out, *others)

    def tests_of(self, modules, library, out, *others):
        """The same of the kits of `libraries`."""
        folders = ("sharedTest", "test", "androidTest")
        sources = [module / "src" / folder / "kotlin" for module in modules for folder in folders]
        classpath = [self.stubs, library, self.test, self.junit]
        options = ("-module-name", "library", f"-Xfriend-paths={library}")
        return self.compile(out, [*sources, *others], classpath, *options)

    def sample(self, kit, library, out):
        return self.compile(out, [kit / "sample" / "src" / "main" / "kotlin"], [self.stubs, library])

    def run(self, classpath, main, *arguments, **properties):
        """What a program prints."""
        # Android's own org.json, and JUnit, where they are: in front of their stubs
        fetched = [path for name in ("json.jar", "junit4.jar", "hamcrest.jar") if (path := FETCHED / name).exists()]
        path = os.pathsep.join(map(str, [*classpath, *fetched, self.stubs, self.stdlib, self.test, self.coroutines]))
        given = [f"-Dfakes.{name}={value}" for name, value in properties.items()]
        command = ["java", "-Dfile.encoding=UTF-8", *given, "-cp", path, main, *map(str, arguments)]
        finished = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
        self.check(finished)
        return finished.stdout

    def passed(self, *arguments, **properties):
        """How many tests a program of the kits' tests has run; none of them failed."""
        printed = self.run(*arguments, **properties)
        found = re.search(r"(\d+) tests run, 0 failed", printed)
        assert found, printed
        return int(found[1])

    @staticmethod
    def check(finished):
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert "warning:" not in finished.stderr, finished.stderr


@pytest.fixture(scope="session")
def kotlin(kotlinc, tmp_path_factory):
    if not shutil.which("javac"):
        pytest.fail("no javac beside kotlinc: install a JDK of version 17 or later")
    found = Kotlin(kotlinc, tmp_path_factory.mktemp("kotlin"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def swift(tmp_path_factory):
    """Run ``swift COMMAND ARGUMENTS`` in a package's folder, which is all that it sees; the finished process.

    The first time that a package with stubs is built, what its kits use of Apple's frameworks is looked up, too: API that does not exist,
    or not on the oldest iOS that they run on, is an error.
    """
    program = compiler("TWINKEEL_SWIFT", "swift")
    # packages of one path, as a container shows them, wait for each other's folder; a module is compiled by one process, not
    # by one for each of its files
    place = ("--scratch-path", f".build-{os.getpid()}", "-debug-info-format", "none")
    whole = ("-whole-module-optimization", "-num-threads", "1", "-no-emit-module-separately-wmo")
    # what a system's headers become is kept for all packages, in a folder that a container has for itself; and of what the
    # system's own modules have no index is written: it would take as long as the kits do
    kept = ("-module-cache-path", str(tmp_path_factory.getbasetemp() / "swift-modules"), "-index-ignore-system-modules")
    quick = (*place, *(word for option in (*whole, *kept) for word in ("-Xswiftc", option)))
    looked_up = set()

    def run(package, command, *arguments, environment=None):
        builds = quick if command in ("build", "test", "run") else ()
        finished = subprocess.run(
            [program, command, *builds, *arguments],
            cwd=package,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if finished.returncode == 0 and (package / "Stubs").is_dir() and package not in looked_up:
            looked_up.add(package)
            if absent := apple.absent_of(package, apple.demangler(program, package)):
                finished.returncode, finished.stdout = 1, "\n".join([finished.stdout, *absent])
        return finished

    return run


@pytest.fixture(scope="session")
def demangle(tmp_path_factory):
    """`swift demangle`, a function of lines."""
    return apple.demangler(compiler("TWINKEEL_SWIFT", "swift"), tmp_path_factory.mktemp("demangled"))
