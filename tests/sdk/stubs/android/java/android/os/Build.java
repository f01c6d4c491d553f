// Stub of android.os.Build, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.os;

public class Build {
    public static final String MANUFACTURER = "unknown";
    public static final String MODEL = "unknown";

    public static class VERSION {
        public static final String RELEASE = "16";
        public static final int SDK_INT = Integer.getInteger("fakes.sdk", 36);
    }

    public static class VERSION_CODES {
        public static final int O = 26;
        public static final int TIRAMISU = 33;
    }
}
