// Stubs of org.pytorch.executorch, the members that kits use. Source: ExecuTorch at
// cff6f4dd32, which became 1.5.0:
// extension/android/executorch_android/src/main/java/org/pytorch/executorch of github.com/pytorch/executorch.
// Behind the API: a module takes the input to `Fakes` and gives the floats that lie there.
package org.pytorch.executorch

import fakes.Fakes
import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

abstract class Tensor internal constructor(shape: LongArray) {
    internal abstract val data: ByteBuffer

    private val shape = shape.copyOf()

    fun shape(): LongArray = shape.copyOf()

    open val dataAsFloatArray: FloatArray
        get() = FloatArray(data.capacity() / 4).also { data.order(ByteOrder.nativeOrder()).asFloatBuffer().get(it) }

    companion object {
        @JvmStatic
        fun fromBlobUnsigned(data: ByteBuffer, shape: LongArray): Tensor {
            require(data.isDirect && data.order() == ByteOrder.nativeOrder())
            require(shape.reduce { a, b -> a * b } == data.capacity().toLong())
            return Filled(data, shape)
        }

        @JvmStatic
        fun fromBlob(data: FloatArray, shape: LongArray): Tensor {
            require(shape.first() == 1L && shape.reduce { a, b -> a * b } == data.size.toLong())
            val copy = ByteBuffer.allocateDirect(4 * data.size).order(ByteOrder.nativeOrder())
            copy.asFloatBuffer().put(data)
            return Filled(copy, shape)
        }
    }
}

private class Filled(override val data: ByteBuffer, shape: LongArray) : Tensor(shape)

class EValue private constructor(private val tensor: Tensor) {
    fun toTensor(): Tensor = tensor

    companion object {
        @JvmStatic
        fun from(tensor: Tensor): EValue = EValue(tensor)
    }
}

open class Module private constructor() : Closeable {
    open fun forward(vararg inputs: EValue): Array<EValue> {
        val data = inputs.map { value ->
            val buffer = value.toTensor().data
            buffer.duplicate().order(buffer.order()).apply { rewind() } // wherever its position is
        }
        val output = ByteBuffer.wrap(Fakes.run(data.first(), data.drop(1)))
        return Fakes.layout.map { one ->
            val bytes = ByteArray(4 * one.size()).also { output.get(it) }
            EValue.from(Filled(ByteBuffer.wrap(bytes), longArrayOf(1, one.size().toLong())))
        }.toTypedArray()
    }

    open fun destroy() = Fakes.close()

    override fun close() = destroy()

    companion object {
        const val LOAD_MODE_FILE = 0
        const val LOAD_MODE_MMAP = 1

        @JvmStatic
        @JvmOverloads
        fun load(modelPath: String?, loadMode: Int = LOAD_MODE_FILE, numThreads: Int = 0): Module {
            require(File(modelPath!!).length() > 0 && loadMode in 0..3 && numThreads >= 0)
            Fakes.opened("module", numThreads)
            return Module()
        }
    }
}
