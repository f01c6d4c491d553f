// Stub of android.view.ViewGroup, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.view;

import android.content.Context;

public abstract class ViewGroup extends View {
    public ViewGroup(Context context) {
        super(context);
    }

    public void addView(View child) {}
}
