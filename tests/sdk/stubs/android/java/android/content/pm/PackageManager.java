// Stub of android.content.pm.PackageManager, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.content.pm;

public abstract class PackageManager {
    public static final int PERMISSION_DENIED = -1;
    public static final int PERMISSION_GRANTED = 0;
}
