// Stub of android.app.Instrumentation, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.app;

import android.content.Context;

public class Instrumentation {
    public Context getContext() {
        return new Activity();
    }

    public Context getTargetContext() {
        return new Activity();
    }
}
