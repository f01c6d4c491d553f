// Stubs of androidx.compose.foundation.layout, the members that kits use. Source: androidx.compose of the BOM 2026.09.00, by its
// reference at developer.android.com.
@file:Suppress("UNUSED_PARAMETER")

package androidx.compose.foundation.layout

import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier

interface ColumnScope {
    fun Modifier.weight(weight: Float, fill: Boolean = true): Modifier
}

@Composable
fun Column(modifier: Modifier = Modifier, content: @Composable ColumnScope.() -> Unit) {}

fun Modifier.fillMaxSize(fraction: Float = 1f): Modifier = this

fun Modifier.fillMaxWidth(fraction: Float = 1f): Modifier = this

fun Modifier.safeDrawingPadding(): Modifier = this
