// Stub of android.content.ContentResolver, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.content;

import android.net.Uri;
import androidx.annotation.NonNull;
import androidx.annotation.Nullable;
import java.io.FileNotFoundException;
import java.io.InputStream;

public abstract class ContentResolver {
    public ContentResolver(@Nullable Context context) {}

    @Nullable
    public final InputStream openInputStream(@NonNull Uri uri) throws FileNotFoundException {
        return fakes.Fakes.open(uri);
    }
}
