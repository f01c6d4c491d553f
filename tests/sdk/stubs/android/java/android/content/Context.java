// Stub of android.content.Context, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.content;

import android.content.res.AssetManager;
import androidx.annotation.Nullable;
import java.io.File;

public abstract class Context {
    public abstract AssetManager getAssets();

    public abstract ContentResolver getContentResolver();

    public abstract File getNoBackupFilesDir();

    @Nullable
    public abstract File getExternalFilesDir(@Nullable String type);
}
