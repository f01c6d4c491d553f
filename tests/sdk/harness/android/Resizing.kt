// Makes the images of tests/sdk/resizing.py and writes what each becomes.
package com.example.classifier

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Arguments: the list of the cases, and the file to write. */
fun main(arguments: Array<String>) {
    File(arguments[1]).outputStream().buffered().use { file ->
        for (line in File(arguments[0]).readLines()) {
            val numbers = line.split(" ").map { it.toInt() }
            val (width, height, orientation, inputHeight, inputWidth) = numbers
            val (seed, isLetterbox) = numbers.drop(5)
            val fit = if (isLetterbox == 1) Fit.LETTERBOX else Fit.CROP
            val turn = Orientation.ofExif(orientation)
            val rows = RowSource { y, left, row ->
                for (x in row.indices) row[x] = argb(4 * (y * width + left + x), seed)
            }
            val output = ByteBuffer.allocate(inputHeight * inputWidth * 4)
            writeModelInput(rows, width, height, turn, fit, inputHeight, inputWidth, output)
            file.write(output.array())
            val placed = Placed.of(width, height, turn, fit, inputHeight, inputWidth)
            val there = placed.toPhoto(doubleArrayOf(1.0 / 3, -0.7, inputWidth - 0.1, inputHeight / 7.0))
            val boxes = ByteBuffer.allocate(64).order(ByteOrder.LITTLE_ENDIAN)
            for (value in there + placed.toInput(there)) boxes.putDouble(value)
            file.write(boxes.array())
        }
    }
}

private fun argb(offset: Int, seed: Int): Int {
    val alpha = if (seed % 2 == 1) 255 else byte(offset + 3, seed)
    return (alpha shl 24) or (byte(offset, seed) shl 16) or (byte(offset + 1, seed) shl 8) or byte(offset + 2, seed)
}

private fun byte(offset: Int, seed: Int): Int {
    var hash = offset.toUInt() * 0x9E3779B1u + seed.toUInt() * 0x85EBCA77u
    hash = (hash xor (hash shr 15)) * 0x2C1B3C6Du
    hash = (hash xor (hash shr 12)) * 0x297A2D39u
    return (hash xor (hash shr 15)).toInt() and 0xFF
}
