// What the stubs of Core ML, Core AI and ExecuTorch compute with; no framework of Apple's has such a module.
//
// It knows the golden images of a kit's vectors, with what the model reads beside them, and gives the reference's
// outputs for them, 0 for anything else. The folder of the vectors and the reference's key come from the environment:
// STUB_VECTORS and STUB_REFERENCE, which may be "reversed" for outputs that are wrong; Core AI takes STUB_REFERENCE_COREAI where that is
// given. STUB_SYSTEM is the iOS that the kit of both takes this for. STUB_ADDED is added to the last
// value of the last image.

import Foundation

public enum StubRuntime {
    /// The last image as `(height, width, 4)` RGBA, and the last inputs beside it.
    public nonisolated(unsafe) static var lastInput: [UInt8] = []
    public nonisolated(unsafe) static var lastTensors: [[Float]] = []

    /// Called before each model is loaded, and before each prediction.
    public nonisolated(unsafe) static var gate: (@Sendable () -> Void)?
    /// What kits ask `#available` for.
    public static var hasCoreAI: Bool { Int(environment("STUB_SYSTEM", or: "27"))! >= 27 }
    /// Which runtime computed last, of Apple's two.
    public nonisolated(unsafe) static var lastRuntime: String?
    /// Of Core AI: what loading any model throws.
    public nonisolated(unsafe) static var coreAIError: NSError?
    /// Of Core AI: whether outputs lie in memory as some hardware wants them.
    public nonisolated(unsafe) static var isInterleaved = false
    /// By the number of Core ML's compute units: what predictions on them throw.
    public nonisolated(unsafe) static var refusals: [Int: NSError] = [:]
    /// Core ML's compute units of the last model that was loaded.
    public nonisolated(unsafe) static var lastUnits: Int?
    /// Core ML's compute units for which no model loads.
    public nonisolated(unsafe) static var unitsThatDoNotLoad: Set<Int> = []
    /// Of ExecuTorch: how the last module loads its file, and what loading its method throws.
    public nonisolated(unsafe) static var loadMode: Int?
    public nonisolated(unsafe) static var loadError: NSError?
    /// The runtime's models that there are.
    public static let models = Living()

    public final class Living: @unchecked Sendable {
        private let lock = NSLock()
        private var (count, onMain) = (0, 0)

        public var now: Int { lock.withLock { count } }
        /// How many were freed on the main thread.
        public var freedOnMain: Int { lock.withLock { onMain } }
        public func added() { lock.withLock { count += 1 } }
        public func removed() {
            lock.withLock {
                count -= 1
                onMain += Thread.isMainThread ? 1 : 0
            }
        }
    }

    struct Tensor: Decodable {
        let name: String
        let shape: [Int]
    }

    struct Golden: Decodable { let name: String }

    struct Vectors: Decodable {
        let golden: [Golden]
        /// None of a classifier.
        let outputs: [Tensor]?
        let inputs: [Tensor]?
    }

    public static var inputNames: [String] { (vectors.inputs ?? []).map(\.name) }

    /// The outputs by name, in their order.
    public static func outputs(of rgba: [UInt8], _ tensors: [[Float]] = []) -> [(name: String, values: [Float])] {
        (lastInput, lastTensors) = (rgba, tensors)
        let row = row(of: rgba, tensors)
        guard let outputs = vectors.outputs else {
            return [("logits", row)]
        }
        var start = 0
        return outputs.map { output in
            defer { start += output.shape.reduce(1, *) }
            return (output.name, Array(row[start..<start + output.shape.reduce(1, *)]))
        }
    }

    private static func row(of rgba: [UInt8], _ tensors: [[Float]]) -> [Float] {
        let own = lastRuntime == "Core AI" ? "STUB_REFERENCE_COREAI" : "STUB_REFERENCE"
        let reference = environment(own, or: environment("STUB_REFERENCE"))
        let isReversed = reference == "reversed"
        var values = floats("golden/\(isReversed ? "fp32" : reference).f32")
        values[values.count - 1] += Float(environment("STUB_ADDED", or: "0"))!
        let names = vectors.golden.map(\.name)
        let width = values.count / names.count
        for (number, name) in names.enumerated() {
            let given = inputNames.map { floats("golden/\(name).\($0).f32") }
            if data("golden/\(name).rgba").elementsEqual(rgba), given == tensors {
                let row = Array(values[number * width..<(number + 1) * width])
                return isReversed ? row.reversed() : row
            }
        }
        return [Float](repeating: 0, count: width)
    }

    private static let vectors = try! JSONDecoder().decode(Vectors.self, from: data("vectors.json"))

    private static func floats(_ name: String) -> [Float] {
        data(name).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }

    private static func data(_ name: String) -> Data {
        try! Data(contentsOf: URL(fileURLWithPath: environment("STUB_VECTORS")).appendingPathComponent(name))
    }

    private static func environment(_ name: String, or value: String? = nil) -> String {
        ProcessInfo.processInfo.environment[name] ?? value!
    }
}
