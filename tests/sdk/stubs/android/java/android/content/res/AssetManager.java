// Stub of android.content.res.AssetManager, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.content.res;

import androidx.annotation.NonNull;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;

public final class AssetManager implements AutoCloseable {
    private AssetManager() {}

    @NonNull
    public InputStream open(@NonNull String fileName) throws IOException {
        return new FileInputStream(fakes.Fakes.asset(fileName));
    }

    @NonNull
    public AssetFileDescriptor openFd(@NonNull String fileName) throws IOException {
        File file = fakes.Fakes.asset(fileName);
        if (fakes.Fakes.isCompressed) throw new FileNotFoundException("it is probably compressed");
        return new AssetFileDescriptor(new FileInputStream(file), file.length());
    }

    @Override
    public void close() {}
}
