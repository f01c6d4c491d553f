#if canImport(ExecuTorch)
import ExecuTorch
import Foundation

/// The ExecuTorch program and the memory of its input, for one caller at a time.
final class ExecuTorchModel {
    private let module: Module
    private let pixels: UnsafeMutableRawBufferPointer
    /// `(1, height, width, 4)` bytes of RGBA: a view of `pixels`.
    private let input: Tensor<UInt8>

    init() throws {
        guard let path = Bundle.module.path(forResource: ModelInfo.name, ofType: "pte") else {
            throw ClassifierError.modelMissing(ModelInfo.name)
        }
        module = Module(filePath: path)
        do {
            try module.load("forward")
        } catch {
            throw ClassifierError.modelUnusable(reason: error.localizedDescription)
        }
        pixels = .allocate(byteCount: 4 * ModelInfo.height * ModelInfo.width, alignment: 16)
        pixels.initializeMemory(as: UInt8.self, repeating: 0)
        input = Tensor<UInt8>(bytesNoCopy: pixels.baseAddress!, shape: [1, ModelInfo.height, ModelInfo.width, 4])
    }

    deinit {
        pixels.deallocate()
    }

    /// The scores `(classes)` of the pixels that `write` puts into the model's input.
    func logits(write: (PixelTarget) throws -> Void) throws -> [Float] {
        let (width, height) = (ModelInfo.width, ModelInfo.height)
        try write(PixelTarget(bytes: pixels, width: width, height: height, bytesPerRow: 4 * width, order: .rgba))
        let outputs: [Value]
        do {
            outputs = try module.forward([input])
        } catch {
            throw ClassifierError.predictionFailed(reason: error.localizedDescription)
        }
        guard let logits: Tensor<Float> = outputs.first?.tensor() else {
            throw ClassifierError.predictionFailed(reason: "the model's output is no tensor of floats")
        }
        return logits.scalars()
    }
}
#endif
