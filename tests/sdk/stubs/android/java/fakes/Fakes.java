package fakes;

import android.net.FakeUri;
import android.net.Uri;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.lang.reflect.Constructor;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.locks.LockSupport;

/** What the stubs have behind them: assets and files in folders, and a runtime that keeps what it was given. */
public final class Fakes {
    /** Folders of the assets, and the app's own. */
    public static File[] assets = {};
    public static File files;

    /** Of an int8 output. */
    public static float scale = 0.125f;
    public static int zeroPoint = -3;

    /** An output of the runtime: int8 in steps of a scale, or float32 where that is 0. */
    public static final class Output { // no record, which Android does not have
        private final int size;
        private final float scale;
        private final int zeroPoint;

        public Output(int size, float scale, int zeroPoint) {
            this.size = size;
            this.scale = scale;
            this.zeroPoint = zeroPoint;
        }

        public int size() {
            return size;
        }

        public float scale() {
            return scale;
        }

        public int zeroPoint() {
            return zeroPoint;
        }

        public int bytes() {
            return scale == 0 ? 4 * size : size;
        }
    }

    /** The outputs, in their order. */
    public static Output[] layout = {};

    /** How many inputs a compiled model has. */
    public static int inputs = 1;

    /** Accelerators that LiteRT finds, and those that refuse the model. */
    public static Set<String> accelerators = Set.of("CPU");
    public static Set<String> refusing = Set.of();
    public static boolean isLiteRtMissing;

    /** What is open beside the model: environments and buffers of LiteRT. */
    public static int handles;

    /** What the last model was loaded with, and how long that takes. */
    public static String loaded = "";
    public static int threads;
    public static int millisecondsToLoad;

    /** Whether assets lie compressed in the app. */
    public static boolean isCompressed;

    /** How many pixels a decoder may make, and how many the last one made. */
    public static long pixelsOfMemory = Long.MAX_VALUE;
    public static long pixelsDecoded;

    /** What opens the photo of any address: no Supplier, which is not among the classes that kits' tests are compiled against. */
    public interface Photos {
        InputStream open();
    }

    public static Photos photos = () -> null;

    /** Whether bitmaps fail to give their pixels, and how many copies of bitmaps are not recycled. */
    public static boolean isUnreadable;
    public static int copies;

    public static boolean isSrgb = true;
    public static boolean isOpen;
    public static boolean isFailing;
    public static int milliseconds;
    public static int rowsRead;

    /** The last image, and the last inputs beside it. */
    public static byte[] input;
    public static List<float[]> tensors = List.of();

    /** The bytes of all outputs, and those of the inputs, an image and what follows it, that have outputs of their own. */
    public static byte[] output;
    public static final Map<ByteBuffer, byte[]> outputs = new HashMap<>();

    public static volatile boolean isRunning;

    private Fakes() {}

    /** What a system of another level answers to a call of what came later. */
    public static void since(int level) {
        if (android.os.Build.VERSION.SDK_INT < level) throw new NoSuchMethodError("it came with API level " + level);
    }

    public static byte[] run(ByteBuffer buffer, List<ByteBuffer> others) {
        if (isRunning || !isOpen) throw new AssertionError("two runs at once, or one of a closed model");
        if (isFailing) throw new IllegalArgumentException("it fails");
        if (!buffer.isDirect() || buffer.position() != 0) throw new AssertionError("not a buffer that is read in place");
        isRunning = true;
        LockSupport.parkNanos(1_000_000L * milliseconds);
        input = bytes(buffer);
        tensors = new ArrayList<>();
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        all.writeBytes(input);
        for (ByteBuffer other : others) {
            if (!other.isDirect() || other.order() != ByteOrder.nativeOrder()) throw new AssertionError("no floats");
            all.writeBytes(bytes(other));
            float[] values = new float[other.remaining() / 4];
            other.asFloatBuffer().get(values);
            tensors.add(values);
        }
        isRunning = false;
        return outputs.getOrDefault(ByteBuffer.wrap(all.toByteArray()), output);
    }

    private static byte[] bytes(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    public static void opened(String how, int threads) {
        LockSupport.parkNanos(1_000_000L * millisecondsToLoad);
        if (isOpen) throw new AssertionError("a model is open already");
        loaded = how;
        Fakes.threads = threads;
        isOpen = true;
    }

    /** A photo as the stubbed decoder reads it. */
    public static byte[] photo(int width, int height, int orientation) {
        return ByteBuffer.allocate(12).putInt(width).putInt(height).putInt(orientation).array();
    }

    /** Width, height and orientation of such a photo. */
    public static int[] header(InputStream stream) {
        try {
            ByteBuffer bytes = ByteBuffer.wrap(stream.readAllBytes());
            return new int[] {bytes.getInt(), bytes.getInt(), bytes.getInt()};
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** An address that {@link #photos} is behind. */
    public static Uri uri() {
        return new FakeUri();
    }

    public static InputStream open(Uri uri) {
        return photos.open();
    }

    public static void close() {
        if (isRunning || !isOpen) throw new AssertionError("closed while running, or twice");
        isOpen = false;
    }

    /** An object of a class that no app may make. */
    public static <T> T made(Class<T> of) {
        try {
            Constructor<T> constructor = of.getDeclaredConstructor();
            constructor.setAccessible(true);
            return constructor.newInstance();
        } catch (ReflectiveOperationException error) {
            throw new AssertionError(error);
        }
    }

    public static File asset(String name) throws FileNotFoundException {
        for (File folder : assets) {
            if (new File(folder, name).isFile()) return new File(folder, name);
        }
        throw new FileNotFoundException(name);
    }
}
