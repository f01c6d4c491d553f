// Stub of org.tensorflow.lite.DataType, the members that kits use.
// Source: LiteRT 2.3: tflite/java/src/main/java/org/tensorflow/lite of github.com/google-ai-edge/LiteRT.
package org.tensorflow.lite;

public enum DataType {
    FLOAT32,
    INT32,
    UINT8,
    INT64,
    STRING,
    BOOL,
    INT16,
    INT8,
}
