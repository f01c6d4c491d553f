// Stub of androidx.exifinterface.media.ExifInterface, the members that kits use.
// Source: androidx.exifinterface 1.4, by its reference at developer.android.com.
package androidx.exifinterface.media;

import androidx.annotation.NonNull;
import java.io.IOException;
import java.io.InputStream;

/** Behind the API: a file of {@code Fakes.photo}. */
public class ExifInterface {
    public static final String TAG_ORIENTATION = "Orientation";

    private final int orientation;

    public ExifInterface(@NonNull InputStream inputStream) throws IOException {
        orientation = fakes.Fakes.header(inputStream)[2];
        if (orientation < 0) throw new IOException("damaged EXIF");
    }

    public int getAttributeInt(@NonNull String tag, int defaultValue) {
        return orientation;
    }
}
