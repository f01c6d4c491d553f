// Classifies frames of cameras and batches on the JVM, with stubs for Android and the runtime.
package com.example.classifier

import android.app.Activity
import android.graphics.Bitmap
import android.graphics.ImageFormat
import android.graphics.PixelFormat
import android.graphics.Rect
import android.hardware.DataSpace
import android.media.Image
import android.os.Build
import fakes.Fakes
import fakes.Images
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import kotlinx.coroutines.runBlocking

class FramesEndToEnd {
    private val context = Activity()

    init {
        System.getProperty("fakes.steps")?.split(" ")?.let { (scale, zeroPoint) ->
            Fakes.scale = scale.toFloat()
            Fakes.zeroPoint = zeroPoint.toInt()
        }
        val isInt8 = System.getProperty("fakes.output") == "int8"
        Fakes.assets = arrayOf(File(System.getProperty("fakes.assets")))
        Fakes.files = File(System.getProperty("fakes.files"))
        Fakes.isFailing = false
        Fakes.layout = arrayOf(Fakes.Output(ModelInfo.CLASSES, if (isInt8) Fakes.scale else 0f, Fakes.zeroPoint))
        Fakes.output = output(0, isInt8)
        Fakes.outputs.clear()
        for ((number, name) in Vectors.images.withIndex()) {
            Fakes.outputs[ByteBuffer.wrap(resource("golden/$name.rgba"))] = output(number, isInt8)
        }
    }

    @Test
    fun imagesOfCamerasReachTheRuntimeAsTheReferencesBytes() = classifying { classifier ->
        for (case in Frames.cases) {
            classifier.classify(CameraFrame.of(image(case), case.orientation, case.colors), topK = 1)
            assertContentEquals(resource("frames/${case.name}.expected.rgba"), Fakes.input, case.name)
        }
    }

    @Test
    fun imagesSayWhatTheirColoursAre() = classifying { classifier ->
        val spaces = mapOf("blue-first" to DataSpace.DATASPACE_BT709, "planar" to DataSpace.DATASPACE_JFIF, "red-first" to 0)
        for (case in Frames.cases.filter { it.name in spaces }) {
            if (Build.VERSION.SDK_INT < Build.VERSION_CODES.TIRAMISU) { // which cannot be asked
                classifier.classify(CameraFrame.of(image(case), case.orientation, YuvColors.BT601_FULL))
                val expected = Fakes.input
                classifier.classify(CameraFrame.of(image(case, spaces.getValue(case.name)), case.orientation))
                assertContentEquals(expected, Fakes.input, case.name)
                continue
            }
            classifier.classify(CameraFrame.of(image(case, spaces.getValue(case.name)), case.orientation))
            assertContentEquals(resource("frames/${case.name}.expected.rgba"), Fakes.input, case.name)
        }
    }

    @Test
    fun imagesThatAreNotReadSayWhy() {
        val case = Frames.cases.first()
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU) {
            val wide = assertFailsWith<ClassifierException.InvalidImage> {
                CameraFrame.of(image(case, DataSpace.STANDARD_BT2020 or DataSpace.RANGE_FULL))
            }
            assertTrue("BT.2020" in wide.message.orEmpty(), wide.message)
        }
        val other = assertFailsWith<ClassifierException.InvalidImage> { CameraFrame.of(image(case, 0, ImageFormat.JPEG)) }
        assertTrue("format 256" in other.message.orEmpty(), other.message)
        val closed = image(case).also { it.close() }
        val error = assertFailsWith<ClassifierException.InvalidImage> { CameraFrame.of(closed) }
        assertTrue("closed" in error.message.orEmpty(), error.message)
    }

    @Test
    fun framesOfAnotherSizeThanTheirPlanesSayWhy() {
        fun plane(bytes: Int, rowStride: Int, pixelStride: Int = 1) =
            CameraFrame.Plane(ByteBuffer.allocate(bytes), rowStride, pixelStride)
        val chroma = plane(60, 10)
        val frames = listOf<() -> CameraFrame>(
            { CameraFrame.yuv(20, 13, plane(240, 20), chroma, chroma) }, // a row more than there is
            { CameraFrame.yuv(20, 12, plane(240, 20), chroma, plane(30, 10)) },
            { CameraFrame.yuv(0, 12, plane(240, 20), chroma, chroma) },
            { CameraFrame.yuv(20, -12, plane(240, 20), chroma, chroma) },
            { CameraFrame.yuv(20, 12, plane(240, 20), chroma, chroma, left = -1) },
            { CameraFrame.yuv(20, 12, plane(240, 20), chroma, chroma, left = Int.MAX_VALUE, top = Int.MAX_VALUE) },
            { CameraFrame.yuv(20, 12, plane(9000, 20, 0), chroma, chroma) },
            { CameraFrame.yuv(20, 12, plane(9000, 10), chroma, chroma) }, // rows that reach into each other
            { CameraFrame.yuv(20, 12, plane(240, 20), plane(9000, 2, 20), plane(9000, 2, 20)) }, // strides in each other's place
            { CameraFrame.rgba(20, 12, plane(960, 80, 3)) },
            { CameraFrame.rgba(20, 12, plane(959, 80, 4)) },
        )
        for ((number, frame) in frames.withIndex()) {
            val error = assertFailsWith<ClassifierException.InvalidImage>("frame $number") { frame() }
            assertTrue(error.message.orEmpty().isNotEmpty())
        }
        CameraFrame.yuv(20, 1, plane(20, 1), chroma, chroma) // of a single row, no stride counts
    }

    @Test
    fun aBatchGivesWhatEachImageGives() = classifying { classifier ->
        val bitmaps = Vectors.images.map { bitmap(resource("golden/$it.rgba"), ModelInfo.WIDTH, ModelInfo.HEIGHT) }
        val alone = bitmaps.map { classifier.classify(it, topK = 3) }
        assertTrue(alone.distinct().size > 1, "all images give the same, so their order is not seen")
        val unreadable = bitmap(ByteArray(4), 1, 1).also { it.recycle() }
        var given = 0
        val pictures = (bitmaps + unreadable + bitmaps).asSequence().map { Picture(it).also { given++ } }
        val found = classifier.classifyAll(pictures.asIterable(), topK = 3)
        assertEquals(2 * alone.size + 1, given)
        assertTrue(found[alone.size].exceptionOrNull() is ClassifierException.InvalidImage)
        assertEquals(alone + alone, found.mapNotNull { it.getOrNull() })
    }

    @Test
    fun aBatchTurnsItsImages() = classifying { classifier ->
        val cases = Vectors.pixelCases.take(8)
        val pictures = cases.map { Picture(bitmap(resource("pixels/${it.name}.rgba"), it.width, it.height), it.orientation) }
        for ((case, picture) in cases.zip(pictures)) {
            classifier.classifyAll(listOf(picture))
            assertContentEquals(resource("pixels/${case.name}.expected.rgba"), Fakes.input, case.name)
        }
        assertEquals(listOf(), classifier.classifyAll(listOf()))
    }

    @Test
    fun aBatchThatCannotBeComputedIsOneFailureForEach() = classifying { classifier ->
        val picture = Picture(bitmap(ByteArray(4), 1, 1))
        assertFailsWith<IllegalArgumentException> { classifier.classifyAll(listOf(picture), topK = 0) }
        Fakes.isFailing = true
        val found = classifier.classifyAll(listOf(picture, picture))
        Fakes.isFailing = false
        assertEquals(listOf(true, true), found.map { it.exceptionOrNull() is ClassifierException.InferenceFailed })
        classifier.close()
        assertFailsWith<ClassifierException.Closed> { classifier.classifyAll(listOf(picture)) }
    }

    private fun classifying(test: suspend (Classifier) -> Unit): Unit =
        runBlocking { Classifier.create(context).use { test(it) } }

    private fun image(case: FrameCase, dataSpace: Int = 0, format: Int? = null): Image {
        val bytes = resource("frames/${case.name}.planes")
        val planes = case.planes.map { it.of(bytes) }
        val own = if (planes.size == 1) PixelFormat.RGBA_8888 else ImageFormat.YUV_420_888
        val (top, left, height, width) = case.window
        return Images.of(
            format ?: own,
            Rect(left, top, left + width, top + height),
            dataSpace,
            planes.map { it.buffer }.toTypedArray(),
            planes.map { it.rowStride }.toIntArray(),
            planes.map { it.pixelStride }.toIntArray(),
        )
    }

    private fun bitmap(rgba: ByteArray, width: Int, height: Int): Bitmap {
        val pixels = ByteBuffer.wrap(rgba).asIntBuffer()
        val colors = IntArray(width * height) { Integer.rotateRight(pixels.get(it), 8) }
        return Bitmap.createBitmap(colors, width, height, Bitmap.Config.ARGB_8888)
    }

    /** Logits of which each number's has another order. */
    private fun output(number: Int, isInt8: Boolean): ByteArray {
        val sign = if (Fakes.zeroPoint > 0) -1 else 1 // steps of int8 end there
        val steps = List(ModelInfo.CLASSES) { sign * ((it + number) * 7 % 11) }
        if (isInt8) return ByteArray(steps.size) { (steps[it] + Fakes.zeroPoint).toByte() }
        val bytes = ByteBuffer.allocate(4 * steps.size).order(ByteOrder.nativeOrder())
        steps.forEach { bytes.putFloat(it * Fakes.scale) }
        return bytes.array()
    }
}
