// Stub of androidx.test.platform.app.InstrumentationRegistry, the members that kits use.
// Source: AndroidX Test: ext:junit 1.3.0 and runner 1.7.0, by their reference at developer.android.com.
package androidx.test.platform.app;

import android.app.Instrumentation;

public final class InstrumentationRegistry {
    private InstrumentationRegistry() {}

    public static Instrumentation getInstrumentation() {
        return new Instrumentation();
    }
}
