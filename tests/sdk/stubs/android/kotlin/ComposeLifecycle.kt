// Stubs of androidx.lifecycle.compose, the members that kits use. Source: androidx.lifecycle 2.11.0, by its reference at
// developer.android.com.
package androidx.lifecycle.compose

import androidx.compose.runtime.ProvidableCompositionLocal
import androidx.compose.runtime.local
import androidx.lifecycle.LifecycleOwner

val LocalLifecycleOwner: ProvidableCompositionLocal<LifecycleOwner> = local()
