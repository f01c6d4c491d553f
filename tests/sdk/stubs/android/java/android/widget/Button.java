// Stub of android.widget.Button, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.widget;

import android.content.Context;

public class Button extends TextView {
    public Button(Context context) {
        super(context);
    }
}
