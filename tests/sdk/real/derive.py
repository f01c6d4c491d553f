"""The texts beside this file, from what `fetch.py` put into a folder: `python -m real.derive FOLDER`, with tests/sdk on the path.

Of the runtimes' classes, which are in no package, the sources are compiled by hand, and their classes given as further arguments:
`litert=FOLDER,FOLDER executorch=FOLDER`; without them their texts stay as they are.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from . import HERE, classfiles, levels, metalava, signatures
from .signatures import Class, Classes

ANDROID = (
    "android.Manifest.permission android.app.Activity android.app.Instrumentation android.app.ActivityManager.MemoryInfo android.content.ContentResolver "
    "android.content.Context android.content.res.AssetFileDescriptor android.content.res.AssetManager "
    "android.graphics.Bitmap android.graphics.BitmapFactory android.graphics.BitmapRegionDecoder android.graphics.Canvas android.graphics.Color "
    "android.graphics.ColorSpace android.graphics.ImageDecoder android.graphics.ImageFormat android.graphics.Matrix android.graphics.Paint "
    "android.graphics.PixelFormat android.graphics.Rect android.graphics.YuvImage android.hardware.DataSpace android.hardware.HardwareBuffer android.media.ExifInterface "
    "android.media.Image android.media.ImageReader android.net.Uri android.os.Build android.os.Bundle android.os.Handler android.os.Looper "
    "android.os.ParcelFileDescriptor android.os.Process android.os.StrictMode android.os.SystemClock android.os.Trace android.util.Log "
    "android.util.Size android.view.Surface android.view.View android.view.ViewGroup android.widget.Button android.widget.FrameLayout android.widget.ImageView "
    "android.widget.LinearLayout android.widget.ProgressBar android.widget.ScrollView android.widget.TextView"
)
"""Classes of the platform whose members are kept, with those that they extend."""
JAVA = (
    "java/lang/",
    "java/io/",
    "java/nio/",
    "java/nio/channels/",
    "java/util/",
    "java/util/concurrent/atomic/",
    "java/util/concurrent/locks/",
)
"""Packages of Android's own Java that are kept whole, and the classes of others that kits may use:"""
JAVA_MORE = (
    "java/security/MessageDigest",
    "java/nio/charset/Charset",
    "java/nio/charset/StandardCharsets",
    "java/util/concurrent/CancellationException",
    "java/util/concurrent/Callable",
    "java/util/concurrent/TimeUnit",
    "java/util/concurrent/Executor",
    "java/util/concurrent/ExecutorService",
    "java/util/concurrent/Executors",
)
JAVA_LESS = (
    "java/util/Formatter",
    "java/util/Scanner",
    "java/util/Calendar",
    "java/util/GregorianCalendar",
    "java/util/ResourceBundle",
    "java/util/Locale$",
    "java/lang/Character$Unicode",
    "java/io/Object",
    "java/util/TimeZone",
    "java/util/Currency",
)
"""Of those packages, what would only be long."""
JUNIT = ("org/junit/Test", "org/junit/Before", "org/junit/After", "org/junit/runner/RunWith", "org/junit/runner/Runner")
INTERPRETER = ("Interpreter", "Interpreter$Options", "Tensor", "Tensor$QuantizationParams", "DataType")
COMPILED = (
    "Accelerator", "BuiltinNpuAcceleratorProvider", "CompiledModel", "CompiledModel$Companion", "CompiledModel$CpuOptions", "CompiledModel$Options",
    "CompiledModel$Options$Companion", "Environment", "Environment$Companion", "Environment$Option", "JniHandle", "LiteRtException",
    "NpuAcceleratorProvider", "NpuCompatibilityChecker", "NpuCompatibilityChecker$Companion", "Status", "TensorBuffer", "TensorBuffer$Companion",
)  # fmt: skip
LITERT = (
    *(f"org/tensorflow/lite/{name}" for name in INTERPRETER),
    *(f"com/google/ai/edge/litert/{name}" for name in COMPILED),
)
EXECUTORCH = tuple(
    f"org/pytorch/executorch/{name}"
    for name in ("EValue", "EValue$Companion", "Module", "Module$Companion", "Tensor", "Tensor$Companion", "DType")
)


def closed(classes: Classes, seeds: Iterable[str]) -> Classes:
    """The seeds and what they extend and lie in, as far as it is there."""
    found, waiting = Classes(), list(seeds)
    while waiting:
        name = waiting.pop()
        if name in found or name not in classes:
            continue
        found[name] = classes[name]
        waiting += [*classes[name].superclasses, *([name.rpartition("$")[0]] if "$" in name else [])]
    return found


def android(folder: Path) -> Iterable[Class]:
    """Signatures of the API's text, with the levels of the types."""
    published, dated = metalava.read(folder / "current.txt"), levels.Levels(folder / "android.d.ts")
    wanted = metalava.wanted(published, map(metalava.binary, ANDROID.split()))
    return [signatures.dated(one, *dated.of(one)) for one in wanted.values()]


def java(folder: Path) -> Iterable[Class]:
    """Java as Android 6.0 has it, the last before the oldest that kits run on, and what came to these classes since.

    Of what came since, the levels are those of the types, and the signatures those of the JDK, of which Android has a part.
    """
    classes, dated = classfiles.declared(folder / "android-23.jar"), levels.Levels(folder / "android.d.ts")
    kept = [
        name
        for name, one in classes.items()
        if "public" in one.modifiers and name.rpartition("/")[0] + "/" in JAVA and not name.startswith(JAVA_LESS)
    ]
    found = closed(classes, [*kept, *JAVA_MORE])
    for name, one in jdk(found).items():
        for key, member in one.members.items():
            level = dated.member(name.replace("/", ".").replace("$", "."), *key)
            if key not in found[name].members and level and level > 23:
                found[name].members[key] = replace(member, since=level)
    return found.values()


def jdk(names: Iterable[str]) -> Classes:
    """What the installed JDK says of Java 16's classes, the last that it keeps for `--release`."""
    home = Path(shutil.which("javac") or "javac").resolve().parent.parent
    found = Classes()
    with zipfile.ZipFile(home / "lib" / "ct.sym") as archive:
        places = {}
        for path in archive.namelist():
            releases, _, rest = path.partition("/java.base/")
            if "G" in releases and rest.endswith(".sig"):
                places[rest.removesuffix(".sig")] = path
        for name in names:
            if name in places:
                found[name] = classfiles.ClassFile(archive.read(places[name])).declared()
    return found


def json(folder: Path) -> Iterable[Class]:
    return [one for one in classfiles.declared(folder / "json.jar").values() if "public" in one.modifiers]


def junit(folder: Path) -> Iterable[Class]:
    return closed(classfiles.declared(folder / "junit4.jar"), JUNIT).values()


def runtime(folders: Iterable[Path], names: Iterable[str]) -> Iterable[Class]:
    """Of classes that were compiled from the runtime's own sources."""
    return closed(classfiles.declared(*folders), names).values()


TEXTS = {
    "android": (
        android,
        "Android's public API: signatures and nullability of API level 34, core/api/current.txt of Debian's android-platform-frameworks-base",
        "14~beta1; levels of API 37, npm's @nativescript/types-android 9.1.1. Both Apache-2.0, The Android Open Source Project and NativeScript.",
    ),
    "java": (
        java,
        "Android's own java.* at API level 23, Debian's libandroid-23-java 6.0.1+r72 (Apache-2.0, The Android Open Source Project and Apache",
        "Harmony), and what came to these classes up to API level 37 by npm's @nativescript/types-android 9.1.1.",
    ),
    "json": (
        json,
        "Android's org.json: Debian's libandroid-json-java 10.0.0+r36. Apache-2.0, The Android Open Source Project.",
    ),
    "junit": (junit, "JUnit 4.13.2: Debian's junit4. Eclipse Public License 1.0; names and signatures alone."),
}
"""By name: what makes a text, and what is said at its top."""
RUNTIMES = {
    "litert": (
        LITERT,
        "LiteRT 2.2.0: tflite/java/src/main/java and litert/kotlin/src/main/kotlin of github.com/google-ai-edge/LiteRT at v2.2.0, compiled. The",
        "repository has no tag of 2.3.0 yet. Apache-2.0, The TensorFlow Authors and Google.",
    ),
    "executorch": (
        EXECUTORCH,
        "ExecuTorch 1.5.0 before its release: extension/android/executorch_android/src/main/java of github.com/pytorch/executorch at cff6f4dd32 of 22 August",
        "2026, compiled. The releases of 1.5 are not compared; 1.4.0 has all but the `load` with options of backends. BSD-3-Clause, Meta Platforms and others.",
    ),
}
"""The same of what is in no package: the classes that are kept, and what is said."""


def write(name: str, folder: Path, out: Path) -> None:
    """One of the texts of classes that packages carry."""
    make, *header = TEXTS[name]
    signatures.write(out / f"{name}.txt", make(folder), *header)


def main(folder: Path, out: Path, compiled: dict[str, list[Path]]) -> None:
    for name in TEXTS:
        write(name, folder, out)
    for name, classes in compiled.items():
        names, *header = RUNTIMES[name]
        signatures.write(out / f"{name}.txt", runtime(classes, names), *header)


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[2:])
    main(Path(sys.argv[1]), HERE, {name: [*map(Path, paths.split(","))] for name, paths in given.items()})
