// Stubs of androidx.camera.core, the members that kits use. Source: androidx.camera 1.6.1, by its reference at
// developer.android.com. CameraX is written in Java: what looks like properties here are its getters.
package androidx.camera.core

import android.graphics.Rect
import java.nio.ByteBuffer

interface ImageInfo {
    val rotationDegrees: Int
}

interface ImageProxy : AutoCloseable {
    val cropRect: Rect
    val format: Int
    val height: Int
    val imageInfo: ImageInfo
    val planes: Array<PlaneProxy>
    val width: Int

    override fun close()

    interface PlaneProxy {
        val buffer: ByteBuffer
        val pixelStride: Int
        val rowStride: Int
    }
}

class ImageAnalysis private constructor() {
    fun interface Analyzer {
        fun analyze(image: ImageProxy)
    }
}
