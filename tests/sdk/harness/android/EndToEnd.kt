// Classifies on the JVM, with stubs for Android and the runtime: what reaches the runtime, and what comes back.
package com.example.classifier

import android.app.Activity
import android.graphics.Bitmap
import android.os.Build
import fakes.Fakes
import java.io.ByteArrayInputStream
import java.io.File
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.measureTime
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.delay
import kotlinx.coroutines.runBlocking

class EndToEnd {
    private val context = Activity()
    private val isInt8 = System.getProperty("fakes.output") == "int8"
    private val logits: List<Float>

    /** Android 8.0 brought profiles of colours, and bitmaps in graphics memory. */
    private val knowsColours = Build.VERSION.SDK_INT >= Build.VERSION_CODES.O

    /** Pixels in memory, and in graphics memory where the system knows such bitmaps. */
    private val configs =
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.O) {
            listOf(Bitmap.Config.ARGB_8888, Bitmap.Config.HARDWARE)
        } else {
            listOf(Bitmap.Config.ARGB_8888)
        }

    init {
        System.getProperty("fakes.steps")?.split(" ")?.let { (scale, zeroPoint) ->
            Fakes.scale = scale.toFloat()
            Fakes.zeroPoint = zeroPoint.toInt()
        }
        val sign = if (Fakes.zeroPoint > 0) -1 else 1 // steps of int8 end there
        logits = List(ModelInfo.CLASSES) { sign * (it * 7 % 11) * Fakes.scale }
        Fakes.assets = arrayOf(File(System.getProperty("fakes.assets")))
        Fakes.files = File(System.getProperty("fakes.files"))
        Fakes.isOpen = false
        Fakes.handles = 0
        Fakes.isFailing = false
        Fakes.isSrgb = true
        Fakes.layout = arrayOf(Fakes.Output(ModelInfo.CLASSES, if (isInt8) Fakes.scale else 0f, Fakes.zeroPoint))
        Fakes.output = if (isInt8) int8() else float32()
    }

    @Test
    fun theRuntimeReadsTheReferencesBytes() = classifying { classifier ->
        for (config in configs) {
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
        for (change in if (knowsColours) changes else changes.drop(1)) {
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
    fun closingWaitsForNobodyAndFreesTheModelAfterwards() {
        val image = bitmap(ByteArray(4), 1, 1)
        val classifier = runBlocking { Classifier.create(context) }
        Fakes.milliseconds = 300
        runBlocking {
            val categories = async(Dispatchers.Default) { classifier.classify(image) }
            while (!Fakes.isRunning) Thread.sleep(1)
            val waiting = async(Dispatchers.Default) { runCatching { classifier.classify(image) } }
            val time = measureTime { classifier.close() }
            assertTrue(time < 100.milliseconds && Fakes.isOpen && Fakes.isRunning, "closed after $time")
            assertEquals(5, categories.await().size)
            assertTrue(!Fakes.isOpen && Fakes.handles == 0)
            assertTrue(waiting.await().exceptionOrNull() is ClassifierException.Closed)
        }
        Fakes.milliseconds = 0
    }

    @Test
    fun callersThatAreCancelledAndACloseAmongThemLeaveNothingBehind() = repeat(20) { round ->
        val image = bitmap(ByteArray(4), 1, 1)
        val classifier = runBlocking { Classifier.create(context) }
        Fakes.milliseconds = 1
        runBlocking(Dispatchers.Default) {
            val calls = List(40) { number ->
                async {
                    runCatching {
                        if (number % 3 == 0) classifier.classifyAll(List(3) { Picture(image) }) else classifier.classify(image)
                    }
                }
            }
            val cancelling = async { calls.filterIndexed { number, _ -> number % 4 == 0 }.forEach { it.cancel() } }
            delay(round.milliseconds)
            classifier.close()
            cancelling.await()
            for (call in calls) {
                call.join()
                val failure = if (call.isCancelled) null else call.await().exceptionOrNull()
                assertTrue(failure is ClassifierException.Closed? || failure is CancellationException, "$failure")
            }
        }
        Fakes.milliseconds = 0
        assertTrue(!Fakes.isOpen && Fakes.handles == 0, "the model was not freed")
    }

    @Test
    fun failuresAreTyped() {
        val image = bitmap(ByteArray(4), 1, 1)
        val classifier = runBlocking { Classifier.create(context) }
        assertFailsWith<IllegalArgumentException> { runBlocking { classifier.classify(image, topK = 0) } }
        Fakes.isFailing = true
        assertFailsWith<ClassifierException.InferenceFailed> { runBlocking { classifier.classify(image) } }
        Fakes.isFailing = false
        Fakes.isUnreadable = true
        for (config in configs) {
            val other = bitmap(ByteArray(4), 1, 1, config)
            val unreadable = assertFailsWith<ClassifierException.InvalidImage> { runBlocking { classifier.classify(other) } }
            assertTrue(unreadable.cause is IllegalStateException, "${unreadable.cause}")
        }
        Fakes.isUnreadable = false
        assertEquals(0, Fakes.copies, "a copy out of graphics memory was not recycled")
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
    fun aCancelledCreationLeavesNoModel() {
        Fakes.millisecondsToLoad = 200
        runBlocking {
            val creation = async(Dispatchers.Default) { Classifier.create(context) }
            Thread.sleep(50)
            creation.cancel()
            assertFailsWith<CancellationException> { creation.await() }
            creation.join()
            assertTrue(!Fakes.isOpen && Fakes.handles == 0, "a model was left")
        }
        Fakes.millisecondsToLoad = 0
    }

    @Test
    fun acceleratorsAreTakenRefusedOrReplaced() {
        val gpu = RuntimeOptions(Accelerator.GPU, threads = 3)
        val insisting = RuntimeOptions(Accelerator.GPU, isFallbackAllowed = false)
        fun made(options: RuntimeOptions) = runBlocking { Classifier.create(context, options) }
        fun refused() = assertFailsWith<ClassifierException.AcceleratorRefused> { made(insisting) }.refusal.reason
        made(gpu).use {
            assertEquals(Accelerator.CPU, it.accelerator)
            assertEquals(Accelerator.GPU, it.refusal?.accelerator)
            assertTrue(it.fallback && Fakes.threads == 3)
        }
        if (ModelInfo.ASSET.endsWith(".pte")) {
            assertEquals(Refusal.Reason.CPU_ONLY, refused())
            return
        }
        assertEquals(Refusal.Reason.NOT_FOUND, refused())
        Fakes.accelerators = setOf("CPU", "GPU", "NPU")
        for (accelerator in listOf(Accelerator.GPU, Accelerator.NPU)) {
            made(RuntimeOptions(accelerator, isFallbackAllowed = false)).use {
                assertEquals("$accelerator from file", Fakes.loaded)
                assertTrue(it.accelerator == accelerator && !it.fallback && it.refusal == null)
            }
        }
        Fakes.refusing = setOf("GPU")
        assertEquals(Refusal.Reason.NOT_LOADED, refused())
        made(gpu).use { assertEquals("CPU from file", Fakes.loaded) }
        Fakes.refusing = setOf()
        Fakes.isLiteRtMissing = true
        made(gpu).use { assertEquals("interpreter" to 3, Fakes.loaded to Fakes.threads) }
        assertFailsWith<ClassifierException.AcceleratorRefused> { made(RuntimeOptions(isFallbackAllowed = false)) }
        Fakes.isLiteRtMissing = false
        assertTrue(!Fakes.isOpen && Fakes.handles == 0, "something was left open")
        assertFailsWith<IllegalArgumentException> { RuntimeOptions(threads = 0) }
    }

    @Test
    fun largePhotosAreDecodedSmaller() = runBlocking {
        for ((size, factor) in mapOf((4000 to 3000) to 1, (8000 to 6000) to 2, (16_320 to 12_240) to 4, (4096 to 4097) to 2)) {
            Fakes.photos = { ByteArrayInputStream(Fakes.photo(size.first, size.second, 6)) }
            val photo = DecodedPhoto.of(context, Fakes.uri())
            assertEquals(listOf(size.first, size.second, factor), listOf(photo.width, photo.height, photo.subsampling))
            assertEquals(size.first / factor to size.second / factor, photo.bitmap.width to photo.bitmap.height)
            assertTrue(Fakes.pixelsDecoded <= DecodedPhoto.MAX_PIXELS && photo.orientation == Orientation.RIGHT)
        }
        val small = DecodedPhoto.of(maxPixels = 12) { ByteArrayInputStream(Fakes.photo(9, 5, -1)) }
        assertEquals(listOf(4, 2, 4), listOf(small.bitmap.width * 2, small.bitmap.height * 2, small.subsampling))
        assertEquals(Orientation.UP, small.orientation, "of damaged EXIF")
    }

    @Test
    fun photosThatCannotBeDecodedAreTypedErrors() = runBlocking {
        val failures = listOf<() -> InputStream?>(
            { null },
            { throw SecurityException("the permission has ended") },
            { throw IllegalStateException("the provider fails") },
            { ByteArrayInputStream(Fakes.photo(0, 0, 1)) },
        )
        for (failure in failures) {
            Fakes.photos = Fakes.Photos { failure() }
            assertFailsWith<ClassifierException.InvalidImage> { DecodedPhoto.of(context, Fakes.uri()) }
        }
        assertFailsWith<ClassifierException.InvalidImage> { DecodedPhoto.of(File("there is no such file")) }
        Fakes.pixelsOfMemory = 10
        assertFailsWith<ClassifierException.InvalidImage> {
            DecodedPhoto.of { ByteArrayInputStream(Fakes.photo(100, 100, 1)) }
        }
        Fakes.pixelsOfMemory = Long.MAX_VALUE
        assertFailsWith<IllegalArgumentException> { DecodedPhoto.of(File("any"), maxPixels = 0) }
        Unit
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
        Fakes.files.deleteRecursively()
        val suffix = ".${File(ModelInfo.ASSET).extension}"
        val folder = checkNotNull(File(Fakes.files, ModelInfo.ASSET).parentFile)
        folder.mkdirs()
        File(folder, "of-an-earlier-version$suffix").writeText("old")
        val parts = listOf("left", "under-way").map { File(folder, "$it.partial") }
        parts.forEach { it.writeText("a part") }
        parts[0].setLastModified(1_000_000)
        runBlocking { Classifier.create(context).close() }
        assertEquals(listOf(false, true), parts.map { it.delete() }, "a part of long ago, and one of another process")
        val file = checkNotNull(folder.listFiles()).single()
        assertEquals("${ModelInfo.SHA256}$suffix", file.name)
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
