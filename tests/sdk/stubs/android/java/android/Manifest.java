// Stub of android.Manifest, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android;

public final class Manifest {
    public static final class permission {
        public static final String CAMERA = "android.permission.CAMERA";
    }
}
