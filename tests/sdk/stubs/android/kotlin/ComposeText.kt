// Stubs of androidx.compose.foundation.text, the members that kits use. Source: androidx.compose of the BOM 2026.09.00, by its
// reference at developer.android.com.
@file:Suppress("UNUSED_PARAMETER")

package androidx.compose.foundation.text

import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier

@Composable
fun BasicText(text: String, modifier: Modifier = Modifier) {}
