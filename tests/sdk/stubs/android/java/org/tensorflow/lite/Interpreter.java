// Stub of org.tensorflow.lite.Interpreter, the members that kits use.
// Source: LiteRT 2.3: tflite/java/src/main/java/org/tensorflow/lite of github.com/google-ai-edge/LiteRT.
package org.tensorflow.lite;

import androidx.annotation.NonNull;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Behind the API: it takes the input to {@code Fakes} and gives the bytes that lie there. */
public final class Interpreter implements AutoCloseable {
    public static class Options {
        private int threads = -1;

        public Options setUseXNNPACK(boolean useXNNPACK) {
            return this;
        }

        public Options setNumThreads(int numThreads) {
            threads = numThreads;
            return this;
        }
    }

    public Interpreter(@NonNull ByteBuffer byteBuffer, Options options) {
        if (!byteBuffer.isDirect() || byteBuffer.capacity() == 0) throw new IllegalArgumentException();
        fakes.Fakes.opened("interpreter", options.threads);
    }

    public void runForMultipleInputsOutputs(@NonNull Object[] inputs, @NonNull Map<Integer, Object> outputs) {
        List<ByteBuffer> tensors = new ArrayList<>();
        for (Object input : inputs) tensors.add((ByteBuffer) input);
        byte[] bytes = fakes.Fakes.run(tensors.get(0), tensors.subList(1, tensors.size()));
        int start = 0;
        for (int index = 0; index < fakes.Fakes.layout.length; index++) {
            ByteBuffer result = (ByteBuffer) outputs.get(index);
            if (result.remaining() != fakes.Fakes.layout[index].bytes()) throw new IllegalArgumentException();
            start += result.remaining();
            result.put(bytes, start - result.remaining(), result.remaining());
        }
        if (start != bytes.length) throw new AssertionError("the fake runtime has other outputs than its layout says");
    }

    public int getOutputTensorCount() {
        return fakes.Fakes.layout.length;
    }

    public Tensor getOutputTensor(int outputIndex) {
        fakes.Fakes.Output output = fakes.Fakes.layout[outputIndex];
        return new Tensor() {
            @Override
            public DataType dataType() {
                return output.scale() == 0 ? DataType.FLOAT32 : DataType.INT8;
            }

            @Override
            public int numBytes() {
                return output.bytes();
            }

            @Override
            public QuantizationParams quantizationParams() {
                return new QuantizationParams(output.scale(), output.zeroPoint());
            }
        };
    }

    @Override
    public void close() {
        fakes.Fakes.close();
    }
}
