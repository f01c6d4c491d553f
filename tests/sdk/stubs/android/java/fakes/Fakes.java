package fakes;

import java.io.File;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.locks.LockSupport;

/** What the stubs have behind them: assets and files in folders, and a runtime that keeps what it was given. */
public final class Fakes {
    /** Folders of the assets, and the app's own. */
    public static File[] assets = {};
    public static File files;

    /** Of the int8 output. */
    public static float scale = 0.125f;
    public static int zeroPoint = -3;

    public static boolean isSrgb = true;
    public static boolean isOpen;
    public static boolean isFailing;
    public static int milliseconds;
    public static int rowsRead;

    /** The last input, the bytes of the output, and those of the inputs that have outputs of their own. */
    public static byte[] input;
    public static byte[] output;
    public static final Map<ByteBuffer, byte[]> outputs = new HashMap<>();

    public static volatile boolean isRunning;

    private Fakes() {}

    public static byte[] run(ByteBuffer buffer) {
        if (isRunning || !isOpen) throw new AssertionError("two runs at once, or one of a closed model");
        if (isFailing) throw new IllegalArgumentException("it fails");
        if (!buffer.isDirect() || buffer.position() != 0) throw new AssertionError("not a buffer that is read in place");
        isRunning = true;
        LockSupport.parkNanos(1_000_000L * milliseconds);
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        input = bytes;
        isRunning = false;
        return outputs.getOrDefault(ByteBuffer.wrap(bytes), output);
    }

    public static void close() {
        if (isRunning || !isOpen) throw new AssertionError("closed while running, or twice");
        isOpen = false;
    }

    public static File asset(String name) throws FileNotFoundException {
        for (File folder : assets) {
            if (new File(folder, name).isFile()) return new File(folder, name);
        }
        throw new FileNotFoundException(name);
    }
}
