// Stub of android.graphics.BitmapFactory, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.graphics;

import androidx.annotation.Nullable;
import java.io.InputStream;

public class BitmapFactory {
    @Nullable
    public static Bitmap decodeStream(@Nullable InputStream is) {
        throw new UnsupportedOperationException("stub");
    }
}
