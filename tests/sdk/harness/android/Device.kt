// Runs the kit's device test on the JVM: the stubbed runtime answers as the reference does.
package com.example.classifier

import fakes.Fakes
import fakes.TestRunner
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.roundToInt

/**
 * Arguments: folder of the kit's module, folder for the results, and step and zero point of the int8 logits, or
 * `accelerators` for a device with a GPU and an NPU, or nothing.
 */
fun main(arguments: Array<String>) {
    val module = File(arguments[0])
    Fakes.assets = arrayOf(File(module, "src/main/assets"), File(module, "src/golden"))
    Fakes.files = File(arguments[1])
    val logits = Vectors.rows(resource(Vectors.REFERENCE))
    if (arguments.getOrNull(2) == "accelerators") Fakes.accelerators = setOf("CPU", "GPU", "NPU")
    val step = arguments.getOrNull(2)?.toFloatOrNull()
    if (step != null) {
        Fakes.scale = step
        Fakes.zeroPoint = arguments[3].toInt()
    }
    Fakes.layout = arrayOf(Fakes.Output(ModelInfo.CLASSES, step ?: 0f, Fakes.zeroPoint))
    for ((name, row) in Vectors.images.zip(logits)) {
        val image = ByteBuffer.wrap(resource("golden/$name.rgba"))
        Fakes.outputs[image] = if (step == null) float32(row) else int8(row, step)
    }
    TestRunner.main(arrayOf(GoldenTest::class.java.name))
}

private fun int8(row: FloatArray, step: Float) =
    ByteArray(row.size) { ((row[it] / step).roundToInt() + Fakes.zeroPoint).toByte() }

private fun float32(row: FloatArray): ByteArray {
    val bytes = ByteBuffer.allocate(4 * row.size).order(ByteOrder.nativeOrder())
    row.forEach { bytes.putFloat(it) }
    return bytes.array()
}
