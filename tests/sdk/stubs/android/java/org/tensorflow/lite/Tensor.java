// Stub of org.tensorflow.lite.Tensor, the members that kits use.
// Source: LiteRT 2.3: tflite/java/src/main/java/org/tensorflow/lite of github.com/google-ai-edge/LiteRT.
package org.tensorflow.lite;

public interface Tensor {
    class QuantizationParams {
        private final float scale;
        private final int zeroPoint;

        public QuantizationParams(final float scale, final int zeroPoint) {
            this.scale = scale;
            this.zeroPoint = zeroPoint;
        }

        public float getScale() {
            return scale;
        }

        public int getZeroPoint() {
            return zeroPoint;
        }
    }

    DataType dataType();

    int numBytes();

    QuantizationParams quantizationParams();
}
