// Stub of android.graphics.Bitmap, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.graphics;

import androidx.annotation.NonNull;
import androidx.annotation.Nullable;
import java.nio.Buffer;
import java.nio.ByteBuffer;

/** Behind the API: straight ARGB pixels, and the errors that Android raises. */
public final class Bitmap {
    public enum Config { ALPHA_8, RGB_565, ARGB_4444, ARGB_8888, RGBA_F16, HARDWARE, RGBA_1010102 }

    private final int width;
    private final int height;
    private final Config config;
    private final int[] pixels;
    private boolean hasAlpha = true;
    private boolean isRecycled;
    private boolean isCopy;

    private Bitmap(int width, int height, Config config, int[] pixels) {
        this.width = width;
        this.height = height;
        this.config = config;
        this.pixels = pixels;
    }

    public static Bitmap createBitmap(int width, int height, @NonNull Config config) {
        return new Bitmap(width, height, config, new int[width * height]);
    }

    public static Bitmap createBitmap(@NonNull int[] colors, int width, int height, Config config) {
        return new Bitmap(width, height, config, colors.clone());
    }

    public Bitmap copy(Config config, boolean isMutable) {
        Bitmap copy = new Bitmap(width, height, config, pixels);
        copy.hasAlpha = hasAlpha;
        copy.isCopy = true;
        fakes.Fakes.copies++;
        return copy;
    }

    public int getWidth() {
        return width;
    }

    public int getHeight() {
        return height;
    }

    public int getRowBytes() {
        return 4 * width;
    }

    public Config getConfig() {
        return config;
    }

    @Nullable
    public ColorSpace getColorSpace() {
        fakes.Fakes.since(26);
        return ColorSpace.FAKE;
    }

    public boolean hasAlpha() {
        return hasAlpha;
    }

    public void setHasAlpha(boolean hasAlpha) {
        this.hasAlpha = hasAlpha;
    }

    public boolean isRecycled() {
        return isRecycled;
    }

    public void recycle() {
        if (isCopy && !isRecycled) fakes.Fakes.copies--;
        isRecycled = true;
    }

    public void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height) {
        check();
        if (x < 0 || y < 0 || x + width > this.width || y + height > this.height || Math.abs(stride) < width) {
            throw new IllegalArgumentException();
        }
        fakes.Fakes.rowsRead += height;
        for (int row = 0; row < height; row++) {
            System.arraycopy(this.pixels, (y + row) * this.width + x, pixels, offset + row * stride, width);
        }
    }

    public void copyPixelsToBuffer(Buffer dst) {
        check();
        for (int pixel : pixels) {
            ((ByteBuffer) dst).put((byte) (pixel >> 16)).put((byte) (pixel >> 8)).put((byte) pixel);
            ((ByteBuffer) dst).put((byte) (pixel >> 24));
        }
    }

    public void copyPixelsFromBuffer(Buffer src) {
        check();
        for (int index = 0; index < pixels.length; index++) {
            pixels[index] = Integer.rotateRight(((ByteBuffer) src).getInt(), 8);
        }
    }

    private void check() {
        if (isRecycled || config == Config.HARDWARE || fakes.Fakes.isUnreadable) throw new IllegalStateException();
    }
}
