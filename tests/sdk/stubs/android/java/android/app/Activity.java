// Stub of android.app.Activity, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.app;

import android.content.ContentResolver;
import android.content.Context;
import android.content.res.AssetManager;
import android.os.Bundle;
import android.view.View;
import androidx.annotation.Nullable;
import java.io.File;

public class Activity extends Context {
    protected void onCreate(@Nullable Bundle savedInstanceState) {}

    public void setContentView(View view) {}

    @Override
    public AssetManager getAssets() {
        return fakes.Fakes.made(AssetManager.class);
    }

    @Override
    public ContentResolver getContentResolver() {
        return new ContentResolver(this) {};
    }

    @Override
    public File getNoBackupFilesDir() {
        return fakes.Fakes.files;
    }

    @Nullable
    @Override
    public File getExternalFilesDir(@Nullable String type) {
        return fakes.Fakes.files;
    }
}
