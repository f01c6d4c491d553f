// Stubs of androidx.activity.result, the members that kits use. Source: androidx.activity 1.13.0, by its reference at
// developer.android.com.
package androidx.activity.result

import androidx.activity.result.contract.ActivityResultContracts

fun interface ActivityResultCallback<O> {
    fun onActivityResult(result: O)
}

abstract class ActivityResultLauncher<I> {
    open fun launch(input: I): Unit = TODO("stub")
}

class PickVisualMediaRequest internal constructor() {
    class Builder {
        fun setMediaType(mediaType: ActivityResultContracts.PickVisualMedia.VisualMediaType): Builder = TODO("stub")

        fun build(): PickVisualMediaRequest = TODO("stub")
    }
}
