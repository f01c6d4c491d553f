"""Android's real signatures: what stands in for its classes is as they are, kits ask for nothing else, and the texts are as published."""

from __future__ import annotations

import re
import subprocess

import pytest
import real
from real import androidx, classfiles, derive
from real.fetched import fetched
from real.platform import CLASSES

STUBS = {
    "android/graphics/Bitmap": """
        public final class Bitmap {
            Bitmap() {}
            @androidx.annotation.NonNull public ColorSpace getColorSpace() { return null; }
            public int getPixel(int x, int y, int z) { return 0; }
            public void recycle() throws java.io.IOException {}
            public long getHeight() { return 0; }
            public static int getWidth() { return 0; }
        }""",
    "org/tensorflow/lite/Interpreter": """
        public final class Interpreter implements AutoCloseable {
            public Interpreter(java.nio.ByteBuffer byteBuffer) {}
            public void runForMultipleInputsOutputs(
                @androidx.annotation.NonNull Object[] in, @androidx.annotation.NonNull java.util.Map<Integer, Object> out, int more) {}
            public void close() {}
        }""",
    "org/json/JSONWriter": "public class JSONWriter {}",
}
FAULTS = """\
android/graphics/Bitmap.getColorSpace()Landroid/graphics/ColorSpace;: may be null as N, in truth ?
android/graphics/Bitmap.getHeight()J: there is no such member, only ()I
android/graphics/Bitmap.getPixel(III)I: there is no such member, only (II)I
android/graphics/Bitmap.getWidth()I: is public static, in truth public
android/graphics/Bitmap.recycle()V: throws java/io/IOException, in truth nothing
org/json/JSONWriter: there is no such class
org/tensorflow/lite/Interpreter.<init>(Ljava/nio/ByteBuffer;)V: may be null as -, in truth -N
org/tensorflow/lite/Interpreter.runForMultipleInputsOutputs([Ljava/lang/Object;Ljava/util/Map;I)V: \
there is no such member, only ([Ljava/lang/Object;Ljava/util/Map;)V"""

TOO_NEW = """
import android.graphics.Bitmap
import android.os.Build
import java.io.InputStream

fun shared(bitmap: Bitmap): Bitmap = bitmap.asShared()

fun sharedOnceThere(bitmap: Bitmap): Bitmap = if (Build.VERSION.SDK_INT >= 31) bitmap.asShared() else bitmap

fun sharedOrNot(bitmap: Bitmap): Bitmap {
    if (Build.VERSION.SDK_INT < Build.VERSION_CODES.S) return bitmap
    return bitmap.asShared()
}

fun sharedTooEarly(bitmap: Bitmap): Bitmap = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) bitmap.asShared() else bitmap

fun all(stream: InputStream): ByteArray = stream.readAllBytes()
"""
UNKNOWN = """
import android.graphics.Bitmap
import android.graphics.ColorSpace

fun ofTheJdk(text: String): Long = ProcessHandle.current().pid()

fun neverNull(bitmap: Bitmap): ColorSpace = bitmap.colorSpace

fun oneTooMany(bitmap: Bitmap): Int = bitmap.getPixel(0, 0, 0)
"""


def test_stubs_are_as_the_classes_that_they_stand_for(kotlin):
    assert kotlin.platform.differences(kotlin.stubs) == []


def compiled(kotlin, folder, codes):
    """A folder of classes, whose code is given by name."""
    for name, code in codes.items():
        path = folder / f"{name}.java"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"package {name.rpartition('/')[0].replace('/', '.')};\n{code}\n")
    sources = [str(folder / f"{name}.java") for name in codes]
    out = folder / "classes"
    subprocess.run(["javac", "-implicit:none", "-cp", str(kotlin.stubs), "-d", str(out), *sources], check=True)
    return out


def test_stubs_that_differ_are_caught(kotlin, tmp_path):
    assert "\n".join(kotlin.platform.differences(compiled(kotlin, tmp_path, STUBS))) == FAULTS


def test_stubs_of_androidx_are_as_its_published_api(kotlin):
    stubs = classfiles.declared(kotlin.stubs)
    assert [*androidx.differences(stubs)] == []
    # what is said to be compared with nothing is there, and has no row
    rows = androidx.read()
    names = {
        *stubs,
        *(
            f"{name.rpartition('/')[0]}/{member}"
            for name in stubs
            if name.endswith("Kt")
            for member, _ in stubs[name].members
        ),
    }
    assert names >= androidx.UNCOMPARED and not androidx.UNCOMPARED & {*rows}


ANDROIDX = {
    "androidx/camera/core/ImageInfo": "public interface ImageInfo { int getRotationDegrees(); int getRotation(); }",
    "androidx/camera/view/PreviewView": """
        public final class PreviewView extends android.view.View {
            public PreviewView(@androidx.annotation.Nullable android.content.Context context) { super(context); }
            @androidx.annotation.NonNull public static CameraController getController() { return null; }
        }""",
    "androidx/camera/core/UseCase": "public class UseCase {}",
}
ANDROIDX_FAULTS = """\
androidx/camera/core/ImageInfo.getRotation()I: there is no such member
androidx/camera/core/UseCase: there is no row of it
androidx/camera/view/PreviewView: extends android/view/View, in truth android/widget/FrameLayout
androidx/camera/view/PreviewView.<init>(Landroid/content/Context;)V: may be null as -?, in truth -N
androidx/camera/view/PreviewView.getController()Landroidx/camera/view/CameraController;: is not static in truth
androidx/camera/view/PreviewView.getController()Landroidx/camera/view/CameraController;: may be null as N, in truth ?"""


def test_stubs_of_androidx_that_differ_are_caught(kotlin, tmp_path):
    out = compiled(kotlin, tmp_path, ANDROIDX)
    assert "\n".join(androidx.differences(classfiles.declared(out))) == ANDROIDX_FAULTS


def test_what_came_after_the_lowest_level_is_caught(kotlin, tmp_path):
    source = tmp_path / "TooNew.kt"
    source.write_text(TOO_NEW)
    finished = kotlin.compile(tmp_path / "out", [source], [kotlin.stubs])
    assert finished.stderr.strip().splitlines() == [
        "TooNewKt.shared: android/graphics/Bitmap.asShared is there from API level 31 on, used from 24 on",
        "TooNewKt.sharedTooEarly: android/graphics/Bitmap.asShared is there from API level 31 on, used from 24 on behind a question for 30",
        "TooNewKt.all: java/io/InputStream.readAllBytes is there from API level 33 on, used from 24 on",
    ]
    assert finished.returncode != 0


def test_what_android_does_not_have_is_caught(kotlin, tmp_path):
    source = tmp_path / "Unknown.kt"
    source.write_text(UNKNOWN)
    finished = kotlin.compile(tmp_path / "out", [source], [kotlin.stubs])
    lines = {int(line) for line in re.findall(r"Unknown.kt:(\d+):\d+: error:", finished.stderr)}
    assert lines == {5, 7, 9}, finished.stderr


@pytest.mark.parametrize("name", CLASSES)
def test_texts_are_as_published(name, tmp_path):
    needed = {
        "android": ("current.txt", "android.d.ts"),
        "java": ("android-23.jar", "android.d.ts"),
        "json": ("json.jar",),
    }
    folders = {fetched(file).parent for file in needed.get(name, ("junit4.jar",))}
    derive.write(name, folders.pop(), tmp_path)
    assert (tmp_path / f"{name}.txt").read_bytes() == (real.HERE / f"{name}.txt").read_bytes()
