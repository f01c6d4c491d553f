// Detects on the JVM, with stubs for Android and the runtime: what comes back of outputs, and what is refused.
package com.example.detector

import android.app.Activity
import android.graphics.Bitmap
import fakes.Fakes
import java.io.File
import java.nio.ByteBuffer
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
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
        Fakes.output = bytes(rows[0])
    }

    @Test
    fun objectsComeFromTheOutputsAndLieInTheUprightPhoto() = detecting { detector ->
        var count = 0
        for ((number, case) in Vectors.pixelCases.withIndex()) {
            val row = rows[number % rows.size]
            Fakes.output = bytes(row)
            val image = bitmap(resource("pixels/${case.name}.rgba"), case.width, case.height)
            val found = detector.detect(image, minScore = 0.0, orientation = case.orientation)
            assertContentEquals(resource("pixels/${case.name}.expected.rgba"), Fakes.input, case.name)
            val isTurned = case.orientation.exif >= 5
            val (width, height) = if (isTurned) case.height to case.width else case.width to case.height
            val placed = Placed.of(case.width, case.height, case.orientation, ModelInfo.FIT, ModelInfo.HEIGHT, ModelInfo.WIDTH)
            val outputs = Vectors.parts.map { it.of(listOf(row))[0] }
            assertEquals(inPhoto(decode(outputs, modelForm, minScore = 0.0), placed, width, height), found, case.name)
            for (one in found) {
                assertTrue(one.box.left >= 0 && one.box.top >= 0 && one.box.right <= width && one.box.bottom <= height)
                assertEquals(Detector.labels[one.index], one.label)
            }
            count += found.size
        }
        assertTrue(count > 20, "$count objects")
    }

    @Test
    fun callersTakeTurns() = detecting { detector ->
        val image = bitmap(ByteArray(4), 1, 1)
        List(100) { async(Dispatchers.Default) { detector.detect(image) } }.awaitAll()
    }

    @Test
    fun outputsThatAreNotFiniteOrOfAnotherSizeAreFailures() {
        Fakes.output = bytes(rows[0].copyOf().also { it[it.lastIndex] = Float.NaN })
        detecting { detector ->
            assertFailsWith<DetectorException.InferenceFailed> { detector.detect(bitmap(ByteArray(4), 1, 1)) }
        }
        Fakes.layout = layout(isInt8).also { it[0] = Fakes.Output(it[0].size() + 1, it[0].scale(), it[0].zeroPoint()) }
        Fakes.output = bytes(rows[0]) + ByteArray(if (isInt8) 1 else 4)
        detecting { detector ->
            assertFailsWith<DetectorException.InferenceFailed> { detector.detect(bitmap(ByteArray(4), 1, 1)) }
        }
    }

    @Test
    fun failuresAreTyped() {
        val image = bitmap(ByteArray(4), 1, 1)
        val detector = runBlocking { Detector.create(context) }
        for (score in listOf(-0.1, 1.1, Double.NaN)) {
            assertFailsWith<IllegalArgumentException> { runBlocking { detector.detect(image, minScore = score) } }
        }
        Fakes.isFailing = true
        assertFailsWith<DetectorException.InferenceFailed> { runBlocking { detector.detect(image) } }
        Fakes.isFailing = false
        image.recycle()
        assertFailsWith<DetectorException.InvalidImage> { runBlocking { detector.detect(image) } }
        detector.close()
        assertFailsWith<DetectorException.Closed> { runBlocking { detector.detect(image) } }
        Fakes.assets = arrayOf()
        Fakes.files.deleteRecursively()
        assertFailsWith<DetectorException.ModelUnavailable> { runBlocking { Detector.create(context) } }
    }

    private fun detecting(test: suspend CoroutineScope.(Detector) -> Unit): Unit =
        runBlocking { Detector.create(context).use { test(it) } }

    private fun bitmap(rgba: ByteArray, width: Int, height: Int): Bitmap {
        val pixels = ByteBuffer.wrap(rgba).asIntBuffer()
        val colors = IntArray(width * height) { Integer.rotateRight(pixels.get(it), 8) }
        return Bitmap.createBitmap(colors, width, height, Bitmap.Config.ARGB_8888)
    }

    private fun bytes(row: FloatArray): ByteArray = packed(row, isInt8)
}
