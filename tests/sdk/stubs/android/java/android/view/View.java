// Stub of android.view.View, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.view;

import android.content.Context;
import androidx.annotation.Nullable;

public class View {
    public interface OnClickListener {
        void onClick(View v);
    }

    public View(Context context) {}

    public void setOnClickListener(@Nullable OnClickListener l) {}

    public boolean getFitsSystemWindows() {
        return false;
    }

    public void setFitsSystemWindows(boolean fitSystemWindows) {}
}
