// CoreML, the part that the kit uses. A model is a folder, compiling copies it, and a prediction is StubRuntime's.
// Written after Apple's public documentation of Core ML, as of the iOS 18 SDK (Xcode 16); not compared with the SDK itself.

@_exported import CoreVideo
@_exported import Foundation
import StubRuntime

public enum MLComputeUnits: Int, Sendable {
    case cpuOnly = 0
    case cpuAndGPU, all, cpuAndNeuralEngine
}

open class MLModelConfiguration: NSObject {
    open var computeUnits = MLComputeUnits.all
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

open class MLFeatureValue: NSObject {
    let pixelBuffer: CVPixelBuffer?
    open private(set) var multiArrayValue: MLMultiArray?

    public init(pixelBuffer value: CVPixelBuffer) {
        pixelBuffer = value
    }

    public init(multiArray value: MLMultiArray) {
        pixelBuffer = nil
        multiArrayValue = value
    }

    public convenience init<Scalar: MLShapedArrayScalar>(shapedArray: MLShapedArray<Scalar>) {
        self.init(multiArray: MLMultiArray(values: shapedArray.scalars.map { $0 as! Float }))
    }
}

open class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
    private let dictionary: [String: Any]

    public init(dictionary: [String: Any]) throws {
        self.dictionary = dictionary
    }

    open var featureNames: Set<String> { Set(dictionary.keys) }
    open func featureValue(for featureName: String) -> MLFeatureValue? { dictionary[featureName] as? MLFeatureValue }
}

open class MLMultiArray: NSObject {
    let values: [Float]

    init(values: [Float]) {
        self.values = values
    }
}

public protocol MLShapedArrayScalar {
    static func make(_ value: Float) -> Self
}

extension Float: MLShapedArrayScalar {
    public static func make(_ value: Float) -> Float { value }
}

public struct MLShapedArray<Scalar: MLShapedArrayScalar> {
    public let scalars: [Scalar]

    public init(converting multiArray: MLMultiArray) {
        scalars = multiArray.values.map(Scalar.make)
    }

    public init<S: Sequence>(scalars: S, shape: [Int]) where S.Element == Scalar {
        self.scalars = Array(scalars)
        precondition(shape.first == 1 && shape.reduce(1, *) == self.scalars.count)
    }
}

open class MLModel: NSObject {
    /// Of the stub: how often a model was compiled.
    public nonisolated(unsafe) static var compilations = 0
    private static let lock = NSLock()
    private var units = MLComputeUnits.all

    public convenience init(contentsOf url: URL, configuration: MLModelConfiguration) throws {
        guard FileManager.default.fileExists(atPath: url.appendingPathComponent("Manifest.json").path) else {
            throw CocoaError(.fileReadCorruptFile)
        }
        if StubRuntime.unitsThatDoNotLoad.contains(configuration.computeUnits.rawValue) {
            throw CocoaError(.featureUnsupported)
        }
        self.init()
        units = configuration.computeUnits
        StubRuntime.lastUnits = units.rawValue
        StubRuntime.gate?()
        StubRuntime.models.added()
    }

    deinit {
        StubRuntime.models.removed()
    }

    open class func compileModel(at modelURL: URL) throws -> URL {
        lock.withLock { compilations += 1 }
        let compiled = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).mlmodelc")
        try FileManager.default.copyItem(at: modelURL, to: compiled)
        return compiled
    }

    open class func compileModel(at modelURL: URL) async throws -> URL {
        fatalError("the kit compiles synchronously")
    }

    open func prediction(from input: MLFeatureProvider) throws -> MLFeatureProvider {
        StubRuntime.gate?()
        if let refusal = StubRuntime.refusals[units.rawValue] {
            throw refusal
        }
        guard let buffer = input.featureValue(for: "image")?.pixelBuffer else {
            throw CocoaError(.featureUnsupported)
        }
        var rgba: [UInt8] = []
        for y in 0..<buffer.height {
            for x in 0..<buffer.width {
                for channel in [2, 1, 0, 3] {
                    rgba.append(buffer.bytes.load(fromByteOffset: y * buffer.bytesPerRow + 4 * x + channel, as: UInt8.self))
                }
            }
        }
        StubRuntime.lastRuntime = "Core ML"
        let names = StubRuntime.inputNames
        guard input.featureNames == Set(names + ["image"]) else {
            throw CocoaError(.featureUnsupported)
        }
        let tensors = names.map { input.featureValue(for: $0)!.multiArrayValue!.values }
        var outputs: [String: Any] = [:]
        for (name, values) in StubRuntime.outputs(of: rgba, tensors) {
            outputs[name] = MLFeatureValue(multiArray: MLMultiArray(values: values))
        }
        return try MLDictionaryFeatureProvider(dictionary: outputs)
    }

    open func prediction(from input: MLFeatureProvider) async throws -> MLFeatureProvider {
        fatalError("the kit predicts synchronously")
    }
}

// The plan of the stub: a constant, an operation for each processor that may run it, and in a block one more for the CPU.

public enum MLComputeDevice {
    case cpu(MLCPUComputeDevice)
    case gpu(MLGPUComputeDevice)
    case neuralEngine(MLNeuralEngineComputeDevice)
}

open class MLCPUComputeDevice: NSObject {}
open class MLGPUComputeDevice: NSObject {}
open class MLNeuralEngineComputeDevice: NSObject {}

public enum MLModelStructure {
    case program(Program)
    case unsupported

    public struct Program {
        public let functions: [String: Function]

        public struct Function {
            public let block: Block
        }

        public struct Block {
            public let operations: [Operation]
        }

        public struct Operation {
            public let operatorName: String
            public let blocks: [Block]
            let device: MLComputeDevice?
        }
    }
}

open class MLComputePlan: NSObject {
    public struct DeviceUsage {
        public let preferred: MLComputeDevice
        public let supported: [MLComputeDevice]
    }

    public let modelStructure: MLModelStructure

    init(_ units: MLComputeUnits) {
        let cpu = MLComputeDevice.cpu(MLCPUComputeDevice())
        var devices = [nil, cpu]
        if units == .cpuAndGPU || units == .all { devices.append(.gpu(MLGPUComputeDevice())) }
        if units == .cpuAndNeuralEngine || units == .all { devices.append(.neuralEngine(MLNeuralEngineComputeDevice())) }
        let inner = MLModelStructure.Program.Operation(operatorName: "ios17.relu", blocks: [], device: cpu)
        let operations = devices.map {
            MLModelStructure.Program.Operation(
                operatorName: $0 == nil ? "const" : "ios17.conv", blocks: $0 == nil ? [.init(operations: [inner])] : [],
                device: $0
            )
        }
        modelStructure = .program(.init(functions: ["main": .init(block: .init(operations: operations))]))
    }

    public static func load(contentsOf url: URL, configuration: MLModelConfiguration) async throws -> MLComputePlan {
        guard FileManager.default.fileExists(atPath: url.appendingPathComponent("Manifest.json").path) else {
            throw CocoaError(.fileReadCorruptFile)
        }
        return MLComputePlan(configuration.computeUnits)
    }

    public func deviceUsage(for operation: MLModelStructure.Program.Operation) -> DeviceUsage? {
        operation.device.map { DeviceUsage(preferred: $0, supported: [$0]) }
    }
}
