// What a kit without further inputs is called with.
package com.example.classifier

import android.graphics.Bitmap

internal fun inputs(image: String): List<FloatArray> = listOf<FloatArray>().also { check(image in Vectors.images) }

internal fun given(): List<FloatArray> = emptyList()

internal suspend fun FeatureExtractor.of(
    bitmap: Bitmap,
    inputs: List<FloatArray>,
    orientation: Orientation = Orientation.UP,
): Features = extract(bitmap, orientation).also { check(inputs.isEmpty()) }
