// Stub of org.tensorflow.lite.Interpreter, the members that kits use.
// Source: LiteRT 2.3: tflite/java/src/main/java/org/tensorflow/lite of github.com/google-ai-edge/LiteRT.
package org.tensorflow.lite;

import androidx.annotation.NonNull;
import java.nio.ByteBuffer;

/** Behind the API: it takes the input to {@code Fakes} and gives the bytes that lie there. */
public final class Interpreter implements AutoCloseable {
    public static class Options {
        public Options setUseXNNPACK(boolean useXNNPACK) {
            return this;
        }
    }

    public Interpreter(@NonNull ByteBuffer byteBuffer, Options options) {
        if (!byteBuffer.isDirect() || byteBuffer.capacity() == 0) throw new IllegalArgumentException();
        fakes.Fakes.isOpen = true;
    }

    public void run(Object input, Object output) {
        ByteBuffer result = (ByteBuffer) output;
        byte[] bytes = fakes.Fakes.run((ByteBuffer) input);
        if (result.remaining() != bytes.length) throw new IllegalArgumentException();
        result.put(bytes);
    }

    public Tensor getOutputTensor(int outputIndex) {
        return () -> new Tensor.QuantizationParams(fakes.Fakes.scale, fakes.Fakes.zeroPoint);
    }

    @Override
    public void close() {
        fakes.Fakes.close();
    }
}
