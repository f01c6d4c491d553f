// Stub of android.widget.TextView, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.widget;

import android.content.Context;
import android.view.View;

public class TextView extends View {
    public TextView(Context context) {
        super(context);
    }

    public CharSequence getText() {
        return "";
    }

    public final void setText(CharSequence text) {}
}
