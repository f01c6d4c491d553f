// Stub of android.widget.LinearLayout, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.widget;

import android.content.Context;
import android.view.ViewGroup;

public class LinearLayout extends ViewGroup {
    public static final int VERTICAL = 1;

    public LinearLayout(Context context) {
        super(context);
    }

    public int getOrientation() {
        return VERTICAL;
    }

    public void setOrientation(int orientation) {}
}
