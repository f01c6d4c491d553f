// Stub of android.content.res.AssetFileDescriptor, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.content.res;

import java.io.Closeable;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.IOException;

public class AssetFileDescriptor implements Closeable {
    private final FileInputStream stream;
    private final long length;

    AssetFileDescriptor(FileInputStream stream, long length) {
        this.stream = stream;
        this.length = length;
    }

    public FileDescriptor getFileDescriptor() {
        try {
            return stream.getFD();
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    public long getStartOffset() {
        return 0;
    }

    public long getDeclaredLength() {
        return length;
    }

    @Override
    public void close() throws IOException {
        stream.close();
    }
}
