// Stubs of androidx.compose.ui.viewinterop, the members that kits use. Source: androidx.compose of the BOM 2026.09.00, by its
// reference at developer.android.com.
@file:Suppress("UNUSED_PARAMETER")

package androidx.compose.ui.viewinterop

import android.content.Context
import android.view.View
import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier

@Composable
fun <T : View> AndroidView(factory: (Context) -> T, modifier: Modifier = Modifier, update: (T) -> Unit = {}) {}
