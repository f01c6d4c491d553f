package android.media;

import android.graphics.Rect;
import java.nio.ByteBuffer;

/** An image in memory, which fails as Android's does when it is closed: what `fakes.Images` makes. */
final class FakeImage extends Image {
    private final int format;
    private final Rect window;
    private final int dataSpace;
    private final Plane[] planes;
    private boolean isClosed;

    FakeImage(int format, Rect window, int dataSpace, ByteBuffer[] buffers, int[] rowStrides, int[] pixelStrides) {
        this.format = format;
        this.window = window;
        this.dataSpace = dataSpace;
        planes = new Plane[buffers.length];
        for (int plane = 0; plane < planes.length; plane++) {
            planes[plane] = new FakePlane(buffers[plane], rowStrides[plane], pixelStrides[plane]);
        }
    }

    private <T> T open(T value) {
        if (isClosed) throw new IllegalStateException("Image is already closed");
        return value;
    }

    @Override
    public int getFormat() {
        return open(format);
    }

    @Override
    public int getWidth() {
        return open(window.right);
    }

    @Override
    public int getHeight() {
        return open(window.bottom);
    }

    @Override
    public Rect getCropRect() {
        return open(window);
    }

    @Override
    public int getDataSpace() {
        fakes.Fakes.since(33);
        return open(dataSpace);
    }

    @Override
    public Plane[] getPlanes() {
        return open(planes);
    }

    @Override
    public void close() {
        isClosed = true;
    }

    private static final class FakePlane extends Plane {
        private final ByteBuffer buffer;
        private final int rowStride;
        private final int pixelStride;

        FakePlane(ByteBuffer buffer, int rowStride, int pixelStride) {
            this.buffer = buffer;
            this.rowStride = rowStride;
            this.pixelStride = pixelStride;
        }

        @Override
        public int getRowStride() {
            return rowStride;
        }

        @Override
        public int getPixelStride() {
            return pixelStride;
        }

        @Override
        public ByteBuffer getBuffer() {
            return buffer;
        }
    }
}
