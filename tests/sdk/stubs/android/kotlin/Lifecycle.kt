// Stubs of androidx.lifecycle, the members that kits use. Source: androidx.lifecycle 2.11.0, by its reference at
// developer.android.com.
package androidx.lifecycle

import kotlinx.coroutines.CoroutineScope

interface LifecycleOwner

abstract class LifecycleCoroutineScope internal constructor() : CoroutineScope

val LifecycleOwner.lifecycleScope: LifecycleCoroutineScope
    get() = TODO("stub")
