// Stubs of androidx.compose.ui.platform, the members that kits use. Source: androidx.compose of the BOM 2026.09.00, by its
// reference at developer.android.com.
package androidx.compose.ui.platform

import android.content.Context
import androidx.compose.runtime.ProvidableCompositionLocal
import androidx.compose.runtime.local

val LocalContext: ProvidableCompositionLocal<Context> = local()
