// Segments on the JVM, with stubs for Android and the runtime: what comes back of outputs, and what is refused.
package com.example.segmenter

import android.app.Activity
import android.graphics.Bitmap
import fakes.Fakes
import java.io.File
import java.nio.ByteBuffer
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.runBlocking

class EndToEnd {
    private val context = Activity()
    private val isInt8 = ModelInfo.ASSET.endsWith("-int8.tflite")
    private val rows = Vectors.rows(resource(Vectors.REFERENCE))

    init {
        Fakes.assets = arrayOf(File(System.getProperty("fakes.assets")))
        Fakes.files = File(System.getProperty("fakes.files"))
        Fakes.isFailing = false
        Fakes.layout = layout(isInt8)
        Fakes.output = packed(rows[0], isInt8)
    }

    @Test
    fun masksComeFromTheOutputsAndLieOnThePhotoAsItIsStored() = segmenting { segmenter ->
        for ((number, case) in Vectors.pixelCases.withIndex()) {
            val row = rows[number % rows.size]
            Fakes.output = packed(row, isInt8)
            val image = bitmap(resource("pixels/${case.name}.rgba"), case.width, case.height)
            val mask = segmenter.segment(image, case.orientation)
            assertContentEquals(resource("pixels/${case.name}.expected.rgba"), Fakes.input, case.name)
            assertEquals(listOf(case.width, case.height), listOf(mask.width, mask.height))
            val photo = Photo(case.width, case.height, case.orientation, case.placed)
            assertContentEquals(Points(row).mask(photo), mask.classes, case.name)
            assertEquals(1.0, mask.shares.sumOf { it.share }, 1e-12)
            for (one in mask.shares) assertEquals(Segmenter.labels[one.index], one.label)
            assert(ModelInfo.FIT == Fit.CROP || Mask.UNSEEN.toByte() !in mask.classes)
        }
    }

    @Test
    fun callersTakeTurns() = segmenting { segmenter ->
        val image = bitmap(ByteArray(4), 1, 1)
        List(100) { async(Dispatchers.Default) { segmenter.segment(image) } }.awaitAll()
    }

    @Test
    fun outputsThatAreNotFiniteOrOfAnotherSizeAreFailures() {
        if (!isInt8) {
            Fakes.output = packed(rows[0].copyOf().also { it[it.lastIndex] = Float.NaN }, isInt8)
            segmenting { segmenter ->
                assertFailsWith<SegmenterException.InferenceFailed> { segmenter.segment(bitmap(ByteArray(4), 1, 1)) }
            }
        }
        Fakes.layout = layout(isInt8).also { it[0] = Fakes.Output(it[0].size() + 1, it[0].scale(), it[0].zeroPoint()) }
        Fakes.output = packed(rows[0], isInt8) + ByteArray(if (isInt8) 1 else 4)
        segmenting { segmenter ->
            assertFailsWith<SegmenterException.InferenceFailed> { segmenter.segment(bitmap(ByteArray(4), 1, 1)) }
        }
    }

    @Test
    fun failuresAreTyped() {
        val image = bitmap(ByteArray(4), 1, 1)
        val segmenter = runBlocking { Segmenter.create(context) }
        Fakes.isFailing = true
        assertFailsWith<SegmenterException.InferenceFailed> { runBlocking { segmenter.segment(image) } }
        Fakes.isFailing = false
        image.recycle()
        assertFailsWith<SegmenterException.InvalidImage> { runBlocking { segmenter.segment(image) } }
        segmenter.close()
        assertFailsWith<SegmenterException.Closed> { runBlocking { segmenter.segment(image) } }
        Fakes.assets = arrayOf()
        Fakes.files.deleteRecursively()
        assertFailsWith<SegmenterException.ModelUnavailable> { runBlocking { Segmenter.create(context) } }
    }

    private fun segmenting(test: suspend CoroutineScope.(Segmenter) -> Unit): Unit =
        runBlocking { Segmenter.create(context).use { test(it) } }

    private fun bitmap(rgba: ByteArray, width: Int, height: Int): Bitmap {
        val pixels = ByteBuffer.wrap(rgba).asIntBuffer()
        val colors = IntArray(width * height) { Integer.rotateRight(pixels.get(it), 8) }
        return Bitmap.createBitmap(colors, width, height, Bitmap.Config.ARGB_8888)
    }
}
