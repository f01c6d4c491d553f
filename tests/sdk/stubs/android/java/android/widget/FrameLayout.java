// Stub of android.widget.FrameLayout, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.widget;

import android.content.Context;
import android.view.ViewGroup;
import androidx.annotation.NonNull;

public class FrameLayout extends ViewGroup {
    public FrameLayout(@NonNull Context context) {
        super(context);
    }
}
