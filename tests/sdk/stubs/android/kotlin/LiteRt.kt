// Stubs of com.google.ai.edge.litert, the members that kits use. Source: LiteRT 2.3 (2.2.0 has the same):
// litert/kotlin/src/main/kotlin/com/google/ai/edge/litert of github.com/google-ai-edge/LiteRT, commit f6745779.
// Behind the API: a model takes its inputs to `Fakes` and gives the bytes that lie there.
@file:Suppress("UNUSED_PARAMETER", "unused")

package com.google.ai.edge.litert

import android.content.Context
import android.content.res.AssetManager
import fakes.Fakes
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

enum class Accelerator private constructor(val value: Int) {
    NONE(0),
    CPU(1),
    GPU(2),
    NPU(3),
}

class LiteRtException(private val status: Status, message: String) : Exception(message)

enum class Status(val code: Int) {
    ErrorNotFound(6),
    ErrorCompilation(504),
}

abstract class JniHandle internal constructor(handle: Long) : AutoCloseable {
    private var isOpen = true

    init {
        Fakes.handles++
    }

    final override fun close() {
        if (!isOpen) return
        isOpen = false
        Fakes.handles--
        destroy()
    }

    protected abstract fun destroy()
}

interface NpuAcceleratorProvider

interface NpuCompatibilityChecker {
    companion object {
        val Default: NpuCompatibilityChecker = object : NpuCompatibilityChecker {}
    }
}

class BuiltinNpuAcceleratorProvider
@JvmOverloads
constructor(
    context: Context,
    npuCompatibilityChecker: NpuCompatibilityChecker = NpuCompatibilityChecker.Default,
) : NpuAcceleratorProvider

class Environment private constructor() : JniHandle(0) {
    enum class Option { CompilerPluginLibraryDir, DispatchLibraryDir }

    @Throws(LiteRtException::class)
    fun getAvailableAccelerators(): Set<Accelerator> = Fakes.accelerators.map { Accelerator.valueOf(it) }.toSet()

    override fun destroy() = Unit

    companion object {
        @Throws(LiteRtException::class)
        @JvmOverloads
        @JvmStatic
        fun create(options: Map<Option, String> = mapOf()): Environment {
            if (Fakes.isLiteRtMissing) throw UnsatisfiedLinkError("no litert_jni")
            return Environment()
        }

        @Throws(LiteRtException::class)
        @JvmOverloads
        @JvmStatic
        fun create(npuAcceleratorProvider: NpuAcceleratorProvider, options: Map<Option, String> = mapOf()): Environment =
            Environment()
    }
}

class TensorBuffer internal constructor(handle: Long) : JniHandle(handle) {
    internal var data: ByteBuffer = buffer(handle.toInt()) // the handle of a stub is its size

    @Throws(LiteRtException::class)
    fun writeFloat(data: FloatArray) {
        this.data = buffer(4 * data.size).also { it.asFloatBuffer().put(data) }
    }

    @Throws(LiteRtException::class)
    fun writeInt8(data: ByteArray) {
        this.data = buffer(data.size).also { it.duplicate().put(data) }
    }

    @Throws(LiteRtException::class)
    fun readFloat(): FloatArray = FloatArray(data.capacity() / 4).also { data.asFloatBuffer().get(it) }

    @Throws(LiteRtException::class)
    fun readInt8(): ByteArray = ByteArray(data.capacity()).also { data.duplicate().get(it) }

    override fun destroy() = Unit
}

class CompiledModel private constructor() : JniHandle(0) {
    data class CpuOptions constructor(
        val numThreads: Int? = null,
        val xnnPackFlags: Int? = null,
        val xnnPackWeightCachePath: String? = null,
    )

    class Options constructor(internal val accelerators: Set<Accelerator>) {
        constructor(vararg accelerators: Accelerator) : this(setOf(*accelerators))

        var cpuOptions: CpuOptions? = null
    }

    @Throws(LiteRtException::class)
    @JvmOverloads
    fun createInputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = List(Fakes.inputs) { TensorBuffer(0) }

    @Throws(LiteRtException::class)
    @JvmOverloads
    fun createOutputBuffers(signatureIndex: Int = 0): List<TensorBuffer> = Fakes.layout.map { TensorBuffer(it.bytes().toLong()) }

    @Throws(LiteRtException::class)
    @JvmOverloads
    fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signatureIndex: Int = 0) {
        val data = inputs.map { it.data }
        val computed = ByteBuffer.wrap(Fakes.run(data.first(), data.drop(1)))
        for (output in outputs) {
            val bytes = ByteArray(output.data.capacity()).also { computed.get(it) }
            output.data.duplicate().put(bytes)
        }
        check(!computed.hasRemaining()) { "the fake runtime has other outputs than its layout says" }
    }

    override fun destroy() = Fakes.close()

    companion object {
        @Throws(LiteRtException::class)
        @JvmOverloads
        @JvmStatic
        fun create(
            assetManager: AssetManager,
            assetName: String,
            options: Options = Options(Accelerator.CPU),
            optionalEnv: Environment? = null,
        ): CompiledModel = load(Fakes.asset(assetName), "asset", options)

        @Throws(LiteRtException::class)
        @JvmOverloads
        @JvmStatic
        fun create(
            filePath: String,
            options: Options = Options(Accelerator.CPU),
            optionalEnv: Environment? = null,
        ): CompiledModel = load(File(filePath), "file", options)

        private fun load(file: File, source: String, options: Options): CompiledModel {
            if (!file.isFile) throw LiteRtException(Status.ErrorNotFound, "Failed to open asset.")
            val accelerator = options.accelerators.single().name
            if (accelerator in Fakes.refusing) throw LiteRtException(Status.ErrorCompilation, "Some ops are not accelerated.")
            Fakes.opened("$accelerator from $source", options.cpuOptions?.numThreads ?: 0)
            return CompiledModel()
        }
    }
}

private fun buffer(bytes: Int): ByteBuffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())
