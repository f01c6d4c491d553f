// Stub of android.graphics.BitmapFactory, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.graphics;

import java.io.InputStream;

public class BitmapFactory {
    public static Bitmap decodeStream(InputStream is) {
        throw new UnsupportedOperationException("stub");
    }
}
