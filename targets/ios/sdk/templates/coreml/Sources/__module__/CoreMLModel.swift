#if canImport(CoreML)
import CoreML
import CoreVideo
import Foundation

/// The Core ML model and the buffer of its input, for one caller at a time.
final class CoreMLModel {
    private let model: MLModel
    /// `(height, width)` pixels of 8-bit BGRA.
    private let buffer: CVPixelBuffer
    private let input: MLDictionaryFeatureProvider

    init(computeUnits: MLComputeUnits = .all) throws {
        model = try CompiledModel.load(computeUnits: computeUnits)
        buffer = try Self.makeBuffer()
        input = try MLDictionaryFeatureProvider(dictionary: ["image": MLFeatureValue(pixelBuffer: buffer)])
    }

    /// The scores `(classes)` of the pixels that `write` puts into the model's input.
    func logits(write: (PixelTarget) throws -> Void) throws -> [Float] {
        try fill(write)
        let output: MLFeatureProvider
        do {
            output = try model.prediction(from: input)
        } catch {
            throw ClassifierError.predictionFailed(reason: error.localizedDescription)
        }
        guard let logits = output.featureValue(for: "logits")?.multiArrayValue else {
            throw ClassifierError.predictionFailed(reason: "the model has no output 'logits'")
        }
        return MLShapedArray<Float>(converting: logits).scalars
    }

    private func fill(_ write: (PixelTarget) throws -> Void) throws {
        guard CVPixelBufferLockBaseAddress(buffer, []) == kCVReturnSuccess else {
            throw ClassifierError.predictionFailed(reason: "the input cannot be written")
        }
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        let bytesPerRow = CVPixelBufferGetBytesPerRow(buffer)
        let bytes = UnsafeMutableRawBufferPointer(
            start: CVPixelBufferGetBaseAddress(buffer), count: bytesPerRow * ModelInfo.height
        )
        try write(
            PixelTarget(
                bytes: bytes, width: ModelInfo.width, height: ModelInfo.height, bytesPerRow: bytesPerRow, order: .bgra
            )
        )
    }

    /// Memory that the CPU, the GPU and the Neural Engine share, so that Core ML need not copy it.
    private static func makeBuffer() throws -> CVPixelBuffer {
        let attributes = [kCVPixelBufferIOSurfacePropertiesKey: [String: Any]()] as CFDictionary
        var buffer: CVPixelBuffer?
        let status = CVPixelBufferCreate(
            kCFAllocatorDefault, ModelInfo.width, ModelInfo.height, kCVPixelFormatType_32BGRA, attributes, &buffer
        )
        guard status == kCVReturnSuccess, let buffer else {
            throw ClassifierError.modelUnusable(reason: "no memory for its input (\(status))")
        }
        return buffer
    }
}

/// Finds the model in the package's resources; compiles it once where the build did not, and keeps the result.
enum CompiledModel {
    /// Classifiers that are made at once compile one after another: the second finds what the first has kept.
    private static let lock = NSLock()

    static func load(computeUnits: MLComputeUnits) throws -> MLModel {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        if let built = Bundle.module.url(forResource: ModelInfo.name, withExtension: "mlmodelc") {
            return try usable { try MLModel(contentsOf: built, configuration: configuration) }
        }
        guard let package = Bundle.module.url(forResource: ModelInfo.name, withExtension: "mlpackage") else {
            throw ClassifierError.modelMissing(ModelInfo.name)
        }
        return try usable {
            try lock.withLock {
                let kept = try keptLocation()
                // what an older version of the system has compiled may not load any more
                if let model = try? MLModel(contentsOf: kept, configuration: configuration) {
                    return model
                }
                try compile(package, to: kept)
                return try MLModel(contentsOf: kept, configuration: configuration)
            }
        }
    }

    /// Named after the model's content, so that an update of the app with another model compiles that.
    static func keptLocation() throws -> URL {
        try FileManager.default
            .url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
            .appendingPathComponent("\(ModelInfo.sha256).mlmodelc", isDirectory: true)
    }

    /// Compiles aside and moves the whole result, so that half a model is never found.
    private static func compile(_ package: URL, to kept: URL) throws {
        let compiled = try MLModel.compileModel(at: package)
        try? FileManager.default.removeItem(at: kept)
        do {
            try FileManager.default.moveItem(at: compiled, to: kept)
        } catch {
            try? FileManager.default.removeItem(at: compiled)
            // where another process was faster, its model is the same
            guard FileManager.default.fileExists(atPath: kept.path) else {
                throw error
            }
        }
    }

    private static func usable(_ load: () throws -> MLModel) throws -> MLModel {
        do {
            return try load()
        } catch {
            throw ClassifierError.modelUnusable(reason: error.localizedDescription)
        }
    }
}
#endif
