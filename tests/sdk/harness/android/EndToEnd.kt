// Classifies on the JVM, with stubs for Android and the runtime: what reaches the runtime, and what comes back.
package com.example.classifier

import android.app.Activity
import android.graphics.Bitmap
import fakes.Fakes
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
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
    private val isInt8 = System.getProperty("fakes.output") == "int8"
    private val logits = List(ModelInfo.CLASSES) { (it * 7 % 11) * Fakes.scale }

    init {
        Fakes.assets = arrayOf(File(System.getProperty("fakes.assets")))
        Fakes.files = File(System.getProperty("fakes.files"))
        Fakes.isFailing = false
        Fakes.isSrgb = true
        Fakes.layout = arrayOf(Fakes.Output(ModelInfo.CLASSES, if (isInt8) Fakes.scale else 0f, Fakes.zeroPoint))
        Fakes.output = if (isInt8) int8() else float32()
    }

    @Test
    fun theRuntimeReadsTheReferencesBytes() = classifying { classifier ->
        for (config in listOf(Bitmap.Config.ARGB_8888, Bitmap.Config.HARDWARE)) {
            for (case in Vectors.pixelCases) {
                val image = bitmap(resource("pixels/${case.name}.rgba"), case.width, case.height, config)
                classifier.classify(image, orientation = case.orientation)
                assertContentEquals(resource("pixels/${case.name}.expected.rgba"), Fakes.input, "${case.name} $config")
                assertTrue(!image.isRecycled, "the caller's bitmap was recycled")
            }
        }
    }

    @Test
    fun pixelsOfTheModelsSizeAreTakenAsTheyAre() = classifying { classifier ->
        for (name in Vectors.images) {
            val image = bitmap(resource("golden/$name.rgba"), ModelInfo.WIDTH, ModelInfo.HEIGHT)
            image.setHasAlpha(false)
            Fakes.rowsRead = 0
            classifier.classify(image)
            assertContentEquals(resource("golden/$name.rgba"), Fakes.input, name)
            assertEquals(0, Fakes.rowsRead)
        }
    }

    @Test
    fun otherPixelsAreConverted() = classifying { classifier ->
        val changes = listOf<(Bitmap) -> Unit>({ Fakes.isSrgb = false }, { it.setHasAlpha(true) })
        for (change in changes) {
            val image = bitmap(resource("golden/${Vectors.images[0]}.rgba"), ModelInfo.WIDTH, ModelInfo.HEIGHT)
            image.setHasAlpha(false)
            change(image)
            Fakes.rowsRead = 0
            classifier.classify(image)
            assertEquals(ModelInfo.HEIGHT, Fakes.rowsRead)
            Fakes.isSrgb = true
        }
    }

    @Test
    fun categoriesComeFromTheOutput() = classifying { classifier ->
        val image = bitmap(ByteArray(4), 1, 1)
        val expected = topCategories(logits.toFloatArray(), modelLabels, 5)
        assertEquals(expected, classifier.classify(image))
        assertEquals(Classifier.labels.size, classifier.classify(image, topK = Int.MAX_VALUE).size)
    }

    @Test
    fun callersTakeTurns() = classifying { classifier ->
        val image = bitmap(resource("golden/${Vectors.images[0]}.rgba"), ModelInfo.WIDTH, ModelInfo.HEIGHT)
        List(200) { async(Dispatchers.Default) { classifier.classify(image) } }.awaitAll()
    }

    @Test
    fun closingWaitsForAClassificationUnderWay() {
        val image = bitmap(ByteArray(4), 1, 1)
        val classifier = runBlocking { Classifier.create(context) }
        Fakes.milliseconds = 300
        runBlocking {
            val categories = async(Dispatchers.Default) { classifier.classify(image) }
            while (!Fakes.isRunning) Thread.sleep(1)
            val waiting = async(Dispatchers.Default) { runCatching { classifier.classify(image) } }
            classifier.close()
            assertTrue(!Fakes.isOpen)
            assertEquals(5, categories.await().size)
            assertTrue(waiting.await().exceptionOrNull() is ClassifierException.Closed)
        }
        Fakes.milliseconds = 0
    }

    @Test
    fun failuresAreTyped() {
        val image = bitmap(ByteArray(4), 1, 1)
        val classifier = runBlocking { Classifier.create(context) }
        assertFailsWith<IllegalArgumentException> { runBlocking { classifier.classify(image, topK = 0) } }
        Fakes.isFailing = true
        assertFailsWith<ClassifierException.InferenceFailed> { runBlocking { classifier.classify(image) } }
        Fakes.isFailing = false
        image.recycle()
        assertFailsWith<ClassifierException.InvalidImage> { runBlocking { classifier.classify(image) } }
        classifier.close()
        classifier.close()
        assertFailsWith<ClassifierException.Closed> { runBlocking { classifier.classify(image) } }
    }

    @Test
    fun anOutputThatIsNotFiniteIsAFailure() {
        if (isInt8) return
        Fakes.output = ByteArray(Fakes.output.size) { -1 }
        classifying { classifier ->
            assertFailsWith<ClassifierException.InferenceFailed> { classifier.classify(bitmap(ByteArray(4), 1, 1)) }
        }
    }

    @Test
    fun aModelThatIsMissingIsUnavailable() {
        Fakes.assets = arrayOf()
        Fakes.files.deleteRecursively()
        assertFailsWith<ClassifierException.ModelUnavailable> { runBlocking { Classifier.create(context) } }
        assertTrue(Fakes.files.walk().none { it.isFile }, "a part of a model was left")
    }

    @Test
    fun aModelThatIsReadAsAFileIsUnpackedOnce() {
        if (!ModelInfo.ASSET.endsWith(".pte")) return
        Fakes.files.deleteRecursively()
        val folder = checkNotNull(File(Fakes.files, ModelInfo.ASSET).parentFile)
        folder.mkdirs()
        File(folder, "of-an-earlier-version.pte").writeText("old")
        runBlocking { Classifier.create(context).close() }
        val file = checkNotNull(folder.listFiles()).single()
        assertEquals("${ModelInfo.SHA256}.pte", file.name)
        assertContentEquals(Fakes.asset(ModelInfo.ASSET).readBytes(), file.readBytes())
        file.setLastModified(1_000_000)
        runBlocking { Classifier.create(context).close() }
        assertEquals(1_000_000, file.lastModified())
    }

    private fun classifying(test: suspend CoroutineScope.(Classifier) -> Unit): Unit =
        runBlocking { Classifier.create(context).use { test(it) } }

    private fun bitmap(
        rgba: ByteArray,
        width: Int,
        height: Int,
        config: Bitmap.Config = Bitmap.Config.ARGB_8888,
    ): Bitmap {
        val pixels = ByteBuffer.wrap(rgba).asIntBuffer()
        val colors = IntArray(width * height) { Integer.rotateRight(pixels.get(it), 8) }
        return Bitmap.createBitmap(colors, width, height, config)
    }

    private fun int8() = ByteArray(logits.size) { (logits[it] / Fakes.scale + Fakes.zeroPoint).toInt().toByte() }

    private fun float32(): ByteArray {
        val bytes = ByteBuffer.allocate(4 * logits.size).order(ByteOrder.nativeOrder())
        logits.forEach { bytes.putFloat(it) }
        return bytes.array()
    }
}
