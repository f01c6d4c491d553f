// Makes the frames of tests/sdk/camera_frames.py and writes what each becomes.
package com.example.classifier

import java.io.File
import java.nio.ByteBuffer

/** Arguments: the list of the cases, and the file to write. */
fun main(arguments: Array<String>) {
    File(arguments[1]).outputStream().buffered().use { file ->
        for (line in File(arguments[0]).readLines()) {
            val numbers = line.split(" ").map { it.toInt() }
            val bytes = noise(numbers[0], numbers[1])
            val (top, left, height, width) = numbers.drop(5)
            val (inputHeight, inputWidth, isLetterbox) = numbers.drop(9)
            val planes = numbers.drop(12).chunked(4).map { (start, size, row, pixel) -> Span(start, size, row, pixel) }
            val colors = YuvColors.entries[2 * numbers[3] + 1 - numbers[4]]
            val case = FrameCase("", Area(top, left, height, width), Orientation.ofExif(numbers[2]), colors, planes)
            val output = ByteBuffer.allocate(inputHeight * inputWidth * 4)
            val fit = if (isLetterbox == 1) Fit.LETTERBOX else Fit.CROP
            case.frame(bytes).writeInput(fit, inputHeight, inputWidth, output)
            file.write(output.array())
        }
    }
}

private fun noise(count: Int, seed: Int): ByteArray =
    ByteArray(count) { offset ->
        var hash = offset.toUInt() * 0x9E3779B1u + seed.toUInt() * 0x85EBCA77u
        hash = (hash xor (hash shr 15)) * 0x2C1B3C6Du
        hash = (hash xor (hash shr 12)) * 0x297A2D39u
        (hash xor (hash shr 15)).toByte()
    }
