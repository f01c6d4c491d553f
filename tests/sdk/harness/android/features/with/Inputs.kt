// What a kit with one further input is called with.
package com.example.classifier

import android.graphics.Bitmap

internal fun inputs(image: String): List<FloatArray> = listOf(Vectors.floats(resource("golden/$image.camera_pose.f32")))

internal fun given(): List<FloatArray> = listOf(floatArrayOf(1f, -2f, 3f, 0.5f, 0f, -0.25f))

internal suspend fun FeatureExtractor.of(
    bitmap: Bitmap,
    inputs: List<FloatArray>,
    orientation: Orientation = Orientation.UP,
): Features = extract(bitmap, cameraPose = inputs[0], orientation = orientation)
