// Stub of android.media.Image, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.media;

import android.graphics.Rect;
import java.nio.ByteBuffer;

public abstract class Image implements AutoCloseable {
    Image() {}

    public abstract int getFormat();

    public abstract int getWidth();

    public abstract int getHeight();

    public Rect getCropRect() {
        return new Rect(0, 0, getWidth(), getHeight());
    }

    public int getDataSpace() {
        return 0;
    }

    public abstract Plane[] getPlanes();

    @Override
    public abstract void close();

    public abstract static class Plane {
        Plane() {}

        public abstract int getRowStride();

        public abstract int getPixelStride();

        public abstract ByteBuffer getBuffer();
    }
}
