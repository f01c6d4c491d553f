// Decodes the outputs of tests/networks/box_cases.py.
package com.example.detector

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Arguments: the forms, the outputs, and the file to write. */
fun main(arguments: Array<String>) {
    val words = File(arguments[0]).readText().trim().split(Regex("\\s+")).iterator()
    val values = ByteBuffer.wrap(File(arguments[1]).readBytes()).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
    File(arguments[2]).outputStream().buffered().use { file ->
        repeat(words.int()) {
            val form = form(words)
            val sizes = List(words.int()) { words.int() }
            repeat(words.int()) {
                val found = decode(sizes.map { size -> FloatArray(size).also { values.get(it) } }, form)
                val bytes = ByteBuffer.allocate(8 + 48 * found.size).order(ByteOrder.LITTLE_ENDIAN)
                bytes.putDouble(found.size.toDouble())
                for (one in found) {
                    val box = one.box
                    for (number in listOf(box.left, box.top, box.right, box.bottom, one.score, one.index.toDouble())) bytes.putDouble(number)
                }
                file.write(bytes.array())
            }
        }
    }
    check(!words.hasNext() && !values.hasRemaining())
}

private fun form(words: Iterator<String>): Form =
    Form(
        classes = words.int(),
        columns = words.int(),
        firstClass = words.int(),
        format = BoxFormat.entries[words.int()],
        activation = Activation.entries[words.int()],
        peaks = words.int() == 1,
        center = words.double(),
        variances = DoubleArray(4) { words.double() },
        scoreThreshold = words.double(),
        overlapThreshold = words.double(),
        perClass = words.int() == 1,
        most = words.int(),
        blocks = List(words.int()) { block(words) },
    )

private fun block(words: Iterator<String>): Block =
    Block(
        rows = words.int(),
        columns = words.int(),
        cellWidth = words.double(),
        cellHeight = words.double(),
        unitX = words.double(),
        unitY = words.double(),
        sizes = DoubleArray(words.int()) { words.double() },
        boxes = checkNotNull(numbers(words)),
        scores = checkNotNull(numbers(words)),
        objectness = numbers(words),
        offsets = numbers(words),
    )

private fun numbers(words: Iterator<String>): Numbers? {
    val output = words.int()
    return if (output < 0) null else Numbers(output, words.int(), words.int(), words.int())
}

private fun Iterator<String>.int(): Int = next().toInt()

private fun Iterator<String>.double(): Double = next().toDouble()
