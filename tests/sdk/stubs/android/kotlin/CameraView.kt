// Stubs of androidx.camera.view, the members that kits use. Source: androidx.camera 1.6.1, by its reference at
// developer.android.com. CameraX is written in Java: what looks like properties here are its getters and setters.
@file:Suppress("UNUSED_PARAMETER")

package androidx.camera.view

import android.content.Context
import android.widget.FrameLayout
import androidx.camera.core.ImageAnalysis
import androidx.lifecycle.LifecycleOwner
import java.util.concurrent.Executor

abstract class CameraController internal constructor() {
    fun setEnabledUseCases(enabledUseCases: Int) {}

    fun setImageAnalysisAnalyzer(executor: Executor, analyzer: ImageAnalysis.Analyzer) {}

    fun clearImageAnalysisAnalyzer() {}

    companion object {
        const val IMAGE_CAPTURE = 1
        const val IMAGE_ANALYSIS = 2
    }
}

class LifecycleCameraController(context: Context) : CameraController() {
    fun bindToLifecycle(lifecycleOwner: LifecycleOwner) {}

    fun unbind() {}
}

class PreviewView(context: Context) : FrameLayout(context) {
    var controller: CameraController? = null

    override fun onLayout(changed: Boolean, left: Int, top: Int, right: Int, bottom: Int) {}
}
