// Stub of android.media.ExifInterface, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.media;

import androidx.annotation.NonNull;
import java.io.IOException;
import java.io.InputStream;

public class ExifInterface {
    public static final String TAG_ORIENTATION = "Orientation";

    public ExifInterface(@NonNull InputStream inputStream) throws IOException {}

    public int getAttributeInt(@NonNull String tag, int defaultValue) {
        return defaultValue;
    }
}
