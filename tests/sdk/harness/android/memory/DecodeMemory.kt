// Decodes photos of several sizes, and a camera's frame, and tells what the kit allocates for each.
package com.example.classifier

import com.sun.management.ThreadMXBean
import fakes.Fakes
import java.io.ByteArrayInputStream
import java.lang.management.ManagementFactory
import java.nio.ByteBuffer
import kotlinx.coroutines.runBlocking

/** Arguments: widths and heights in turns. Prints for each the rows and columns that are decoded, and bytes. */
fun main(arguments: Array<String>) {
    val input = newInput()
    for ((width, height) in arguments.map { it.toInt() }.chunked(2)) {
        val file = Fakes.photo(width, height, 6)
        val photo = runBlocking { DecodedPhoto.of { ByteArrayInputStream(file) } }
        val (bitmap, orientation) = photo.bitmap to photo.orientation
        bitmap.writeModelInput(orientation, input) // classes are loaded
        val converting = allocated { bitmap.writeModelInput(orientation, input) }
        println("photo $width $height ${photo.subsampling} ${bitmap.width} ${bitmap.height} $converting")
    }
    val (width, height) = 4000 to 3000
    val luma = CameraFrame.Plane(ByteBuffer.allocateDirect(width * height), width, 1)
    val chroma = CameraFrame.Plane(ByteBuffer.allocateDirect(width * height / 2), width, 2)
    val frame = CameraFrame.yuv(width, height, luma, chroma, chroma, Orientation.RIGHT)
    frame.writeModelInput(input)
    println("frame $width $height 1 0 0 ${allocated { frame.writeModelInput(input) }}")
}

/** Bytes of all objects that this thread makes, those included that are let go of meanwhile. */
private inline fun allocated(work: () -> Unit): Long {
    val bean = ManagementFactory.getThreadMXBean() as ThreadMXBean
    val before = bean.getThreadAllocatedBytes(Thread.currentThread().id)
    work()
    return bean.getThreadAllocatedBytes(Thread.currentThread().id) - before
}
