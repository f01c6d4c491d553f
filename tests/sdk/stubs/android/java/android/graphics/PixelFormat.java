// Stub of android.graphics.PixelFormat, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.graphics;

public class PixelFormat {
    public static final int RGBA_8888 = 1;
}
