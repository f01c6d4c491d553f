// Stub of android.graphics.BitmapFactory, the members that kits use.
// Source: public API of Android, level 36, by its reference at developer.android.com.
package android.graphics;

import androidx.annotation.Nullable;
import java.io.InputStream;

/** Behind the API: files of {@code Fakes.photo}, of which a pixel has its column as red and its row as green. */
public class BitmapFactory {
    public static class Options {
        public boolean inJustDecodeBounds;
        public int inSampleSize;
        public Bitmap.Config inPreferredConfig = Bitmap.Config.ARGB_8888;
        public ColorSpace inPreferredColorSpace = null;
        public int outWidth;
        public int outHeight;

        public Options() {}
    }

    @Nullable
    public static Bitmap decodeStream(@Nullable InputStream is, @Nullable android.graphics.Rect outPadding, @Nullable Options opts) {
        int[] header = fakes.Fakes.header(is);
        boolean isImage = header[0] > 0;
        opts.outWidth = isImage ? header[0] : -1;
        opts.outHeight = isImage ? header[1] : -1;
        if (opts.inJustDecodeBounds || !isImage) return null;
        int width = Math.max(1, header[0] / opts.inSampleSize);
        int height = Math.max(1, header[1] / opts.inSampleSize);
        fakes.Fakes.pixelsDecoded = (long) width * height;
        if (fakes.Fakes.pixelsDecoded > fakes.Fakes.pixelsOfMemory) throw new OutOfMemoryError();
        if (opts.inPreferredConfig != Bitmap.Config.ARGB_8888) throw new AssertionError("another configuration");
        if ((opts.inPreferredColorSpace != null) != (android.os.Build.VERSION.SDK_INT >= 26)) {
            throw new AssertionError("a colour space before there are any, or none");
        }
        int[] colors = new int[width * height];
        for (int n = 0; n < colors.length; n++) {
            int factor = opts.inSampleSize;
            colors[n] = 0xFF000000 | (n % width * factor & 0xFF) << 16 | (n / width * factor & 0xFF) << 8;
        }
        return Bitmap.createBitmap(colors, width, height, Bitmap.Config.ARGB_8888);
    }
}
