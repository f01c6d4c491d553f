// Loads on the JVM, with stubs for Android and LiteRT: both of its interfaces, however an app holds the model.
package com.example.classifier

import android.app.Activity
import android.graphics.Bitmap
import fakes.Fakes
import java.io.File
import kotlin.test.Test
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlinx.coroutines.runBlocking

class Engines {
    private val context = Activity()
    private val image = Bitmap.createBitmap(IntArray(1), 1, 1, Bitmap.Config.ARGB_8888)

    init {
        Fakes.assets = arrayOf(File(System.getProperty("fakes.assets")))
        Fakes.files = File(System.getProperty("fakes.files"))
        Fakes.isOpen = false
        Fakes.handles = 0
        val steps = ModelInfo.STEPS[0]
        Fakes.layout = arrayOf(Fakes.Output(ModelInfo.CLASSES, steps?.scale ?: 0f, steps?.zeroPoint ?: 0))
        Fakes.output = ByteArray(Fakes.layout[0].bytes()) { (it * 5 % 64).toByte() }
    }

    @Test
    fun bothEnginesReadOutputsAlike() {
        val (compiled, interpreted) = Engine.entries.map { engine ->
            runBlocking {
                Classifier.create(context, RuntimeOptions(engine = engine)).use {
                    assertEquals(engine, it.engine)
                    it.classify(image, topK = ModelInfo.CLASSES)
                }
            }
        }
        assertEquals(compiled, interpreted)
        assertContentEquals(ByteArray(4) { if (it == 3) -1 else 0 }, Fakes.input.copyOf(4))
    }

    @Test
    fun aModelThatIsCompressedInTheAppIsUnpacked() {
        Fakes.files.deleteRecursively()
        val options = RuntimeOptions(engine = Engine.INTERPRETER)
        val files = {
            runBlocking { Classifier.create(context, options).close() }
            Fakes.files.walk().count { it.isFile }
        }
        assertEquals(0, files(), "it is mapped where it lies")
        Fakes.isCompressed = true
        assertEquals(1, files())
        Fakes.isCompressed = false
    }

    @Test
    fun withoutRoomForAFileTheAssetIsRead() {
        Fakes.files.deleteRecursively()
        Fakes.files.writeText("no folder")
        runBlocking { Classifier.create(context).close() }
        assertEquals("CPU from asset", Fakes.loaded)
        Fakes.files.delete()
    }

    @Test
    fun theInterpreterTakesNoAccelerator() {
        val gpu = RuntimeOptions(Accelerator.GPU, isFallbackAllowed = false, engine = Engine.INTERPRETER)
        val error = assertFailsWith<ClassifierException.AcceleratorRefused> {
            runBlocking { Classifier.create(context, gpu) }
        }
        assertEquals(Refusal.Reason.CPU_ONLY, error.refusal.reason)
    }
}
