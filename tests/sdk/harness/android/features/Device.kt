// Runs a feature kit's device test on the JVM: the stubbed runtime answers as the reference does, but for one value.
package com.example.classifier

import fakes.Fakes
import fakes.TestRunner
import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.roundToInt

/**
 * Arguments: folder of the kit's module, folder for the results, and what is added to the last value of the last image.
 * In LiteRT's int8 the first output has int8 values, the others are float32.
 */
fun main(arguments: Array<String>) {
    val module = File(arguments[0])
    Fakes.assets = arrayOf(File(module, "src/main/assets"), File(module, "src/golden"))
    Fakes.files = File(arguments[1])
    val rows = Vectors.rows(resource(Vectors.REFERENCE))
    rows.last()[rows.last().lastIndex] += arguments[2].toFloat()
    val isInt8 = ModelInfo.ASSET.endsWith("-int8.tflite")
    Fakes.layout = layout(isInt8)
    Fakes.inputs = 1 + given().size
    for ((image, row) in rows.withIndex()) {
        val given = ByteArrayOutputStream()
        given.write(resource("golden/${Vectors.images[image]}.rgba"))
        for (file in inputs(Vectors.images[image])) given.write(native(file))
        val bytes = Vectors.parts.mapIndexed { place, part ->
            val values = part.of(listOf(row))[0]
            if (isInt8 && place == 0) int8(values, part.scale.toFloat()) else native(values)
        }
        Fakes.outputs[ByteBuffer.wrap(given.toByteArray())] = bytes.reduce { a, b -> a + b }
    }
    TestRunner.main(arrayOf(GoldenTest::class.java.name))
}

internal const val ZERO_POINT = 5

/** Outputs of the stubbed runtime. */
internal fun layout(isInt8: Boolean): Array<Fakes.Output> =
    ModelInfo.OUTPUTS.mapIndexed { place, info ->
        val scale = if (isInt8 && place == 0) Vectors.parts[0].scale.toFloat() else 0f
        Fakes.Output(info.size, scale, ZERO_POINT)
    }.toTypedArray()

internal fun int8(values: FloatArray, step: Float) =
    ByteArray(values.size) { ((values[it] / step).roundToInt() + ZERO_POINT).toByte() }

internal fun native(values: FloatArray): ByteArray {
    val bytes = ByteBuffer.allocate(4 * values.size).order(ByteOrder.nativeOrder())
    values.forEach { bytes.putFloat(it) }
    return bytes.array()
}
