// Stub of android.graphics.ImageFormat, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.graphics;

public class ImageFormat {
    public static final int JPEG = 256;
    public static final int YUV_420_888 = 35;
}
