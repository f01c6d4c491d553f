package fakes;

import android.graphics.Rect;
import android.media.Image;
import java.lang.reflect.Constructor;
import java.nio.ByteBuffer;

/** Images of cameras, which no app can make. */
public final class Images {
    private Images() {}

    public static Image of(
        int format, Rect window, int dataSpace, ByteBuffer[] buffers, int[] rowStrides, int[] pixelStrides
    ) {
        try {
            Constructor<?> constructor = Class.forName("android.media.FakeImage").getDeclaredConstructors()[0];
            constructor.setAccessible(true);
            return (Image) constructor.newInstance(format, window, dataSpace, buffers, rowStrides, pixelStrides);
        } catch (ReflectiveOperationException error) {
            throw new AssertionError(error);
        }
    }
}
