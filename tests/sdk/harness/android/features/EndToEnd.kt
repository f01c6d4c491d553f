// Extracts on the JVM, with stubs for Android and the runtime: what reaches the runtime, and what comes back.
package com.example.classifier

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
    private val row = FloatArray(ModelInfo.SIZES.sum()) { (it * 7 % 11 - 5) * Vectors.parts[0].scale.toFloat() }
    private val pose = given()

    init {
        Fakes.assets = arrayOf(File(System.getProperty("fakes.assets")))
        Fakes.files = File(System.getProperty("fakes.files"))
        Fakes.isFailing = false
        Fakes.layout = layout(isInt8)
        Fakes.inputs = 1 + given().size
        Fakes.output = bytes(row)
    }

    @Test
    fun theRuntimeReadsTheReferencesBytesAndTheInputs() = extracting { extractor ->
        for (case in Vectors.pixelCases) {
            val image = bitmap(resource("pixels/${case.name}.rgba"), case.width, case.height)
            extractor.of(image, pose, case.orientation)
            assertContentEquals(resource("pixels/${case.name}.expected.rgba"), Fakes.input, case.name)
            assertEquals(pose.map { it.asList() }, Fakes.tensors.map { it.asList() })
        }
    }

    @Test
    fun featuresComeFromTheOutputs() = extracting { extractor ->
        val features = extractor.of(bitmap(ByteArray(4), 1, 1), pose)
        assertEquals(ModelInfo.OUTPUTS.map { it.name to it.shape }, features.all.map { it.name to it.shape })
        for (part in Vectors.parts) {
            assertContentEquals(part.of(listOf(row))[0], features[part.name].values, part.name)
        }
    }

    @Test
    fun callersTakeTurns() = extracting { extractor ->
        val image = bitmap(ByteArray(4), 1, 1)
        List(100) { async(Dispatchers.Default) { extractor.of(image, pose) } }.awaitAll()
    }

    @Test
    fun wrongInputsDoNotReachTheRuntime() = extracting { extractor ->
        if (pose.isEmpty()) return@extracting
        val image = bitmap(ByteArray(4), 1, 1)
        Fakes.input = null
        for (wrong in listOf(FloatArray(pose[0].size + 1), FloatArray(0), FloatArray(pose[0].size) { Float.NaN })) {
            val error = runCatching { extractor.of(image, listOf(wrong)) }.exceptionOrNull()
            assertTrue("'camera_pose' " in error?.message.orEmpty(), "$error")
            assertEquals("FeatureExtractorException.InvalidInput", error?.javaClass?.canonicalName?.split(".")?.takeLast(2)?.joinToString("."))
        }
        assertEquals(null, Fakes.input)
    }

    @Test
    fun anOutputOfAnotherSizeIsAFailure() {
        Fakes.layout = layout(isInt8).also { it[0] = Fakes.Output(it[0].size() + 1, it[0].scale(), it[0].zeroPoint()) }
        Fakes.output = bytes(row) + ByteArray(if (isInt8) 1 else 4)
        extracting { extractor ->
            val error = assertFailsWith<FeatureExtractorException.InferenceFailed> {
                extractor.of(bitmap(ByteArray(4), 1, 1), pose)
            }
            assertTrue("not ${ModelInfo.SIZES}" in error.message.orEmpty(), error.message)
        }
    }

    @Test
    fun anOutputThatIsNotFiniteIsAFailure() {
        Fakes.output = bytes(row.copyOf().also { it[it.lastIndex] = Float.NaN })
        extracting { extractor ->
            assertFailsWith<FeatureExtractorException.InferenceFailed> {
                extractor.of(bitmap(ByteArray(4), 1, 1), pose)
            }
        }
    }

    @Test
    fun failuresAreTyped() {
        val image = bitmap(ByteArray(4), 1, 1)
        val extractor = runBlocking { FeatureExtractor.create(context) }
        Fakes.isFailing = true
        assertFailsWith<FeatureExtractorException.InferenceFailed> { runBlocking { extractor.of(image, pose) } }
        Fakes.isFailing = false
        image.recycle()
        assertFailsWith<FeatureExtractorException.InvalidImage> { runBlocking { extractor.of(image, pose) } }
        extractor.close()
        extractor.close()
        assertFailsWith<FeatureExtractorException.Closed> { runBlocking { extractor.of(image, pose) } }
        Fakes.assets = arrayOf()
        Fakes.files.deleteRecursively()
        assertFailsWith<FeatureExtractorException.ModelUnavailable> {
            runBlocking { FeatureExtractor.create(context) }
        }
    }

    private fun extracting(test: suspend CoroutineScope.(FeatureExtractor) -> Unit): Unit =
        runBlocking { FeatureExtractor.create(context).use { test(it) } }

    private fun bytes(row: FloatArray): ByteArray =
        Vectors.parts.mapIndexed { place, part ->
            val values = part.of(listOf(row))[0]
            if (isInt8 && place == 0) int8(values, part.scale.toFloat()) else native(values)
        }.reduce { a, b -> a + b }

    private fun bitmap(rgba: ByteArray, width: Int, height: Int): Bitmap {
        val pixels = ByteBuffer.wrap(rgba).asIntBuffer()
        val colors = IntArray(width * height) { Integer.rotateRight(pixels.get(it), 8) }
        return Bitmap.createBitmap(colors, width, height, Bitmap.Config.ARGB_8888)
    }
}
