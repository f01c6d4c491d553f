// ExecuTorch, the part of its Swift interface that the kit uses and the overloads beside it; a prediction is
// StubRuntime's.
// Source: extension/apple/ExecuTorch/Exported of github.com/pytorch/executorch, at these commits of its main branch:
// ExecuTorchModule.h f74026a, ExecuTorch+Module.swift b6a572d, ExecuTorch+Tensor.swift 885c7cb, ExecuTorch+Value.swift
// 3a4d3d5. What is here is the same at cff6f4dd32, which became 1.5.0.

import Foundation
import StubRuntime

public enum DataType: Int8, Sendable {
    case byte = 0
    case char, short, int, long, half, float, double
}

public enum ShapeDynamism: UInt8, Sendable {
    case `static` = 0
    case dynamicBound, dynamicUnbound
}

public enum ModuleLoadMode: Int, Sendable {
    case file = 0
    case mmap, mmapUseMlock, mmapUseMlockIgnoreErrors
}

public protocol Scalar {
    static var dataType: DataType { get }
}

extension UInt8: Scalar {
    public static var dataType: DataType { .byte }
}

extension Float: Scalar {
    public static var dataType: DataType { .float }
}

public final class AnyTensor {
    public let shape: [Int]
    public let dataType: DataType
    let bytes: UnsafeMutableRawPointer

    public init(
        bytesNoCopy pointer: UnsafeMutableRawPointer, shape: [Int], strides: [Int] = [], dimensionOrder: [Int] = [],
        dataType: DataType, shapeDynamism: ShapeDynamism = .dynamicBound
    ) {
        self.shape = shape
        self.dataType = dataType
        bytes = pointer
    }

    public func asTensor<T: Scalar>() -> Tensor<T>? {
        dataType == T.dataType ? Tensor<T>(self) : nil
    }
}

public final class Tensor<T: Scalar> {
    public let anyTensor: AnyTensor

    public init(_ tensor: AnyTensor) {
        anyTensor = tensor
    }

    public convenience init(
        bytesNoCopy pointer: UnsafeMutableRawPointer, shape: [Int], strides: [Int] = [], dimensionOrder: [Int] = [],
        shapeDynamism: ShapeDynamism = .dynamicBound
    ) {
        self.init(
            AnyTensor(
                bytesNoCopy: pointer, shape: shape, strides: strides, dimensionOrder: dimensionOrder,
                dataType: T.dataType, shapeDynamism: shapeDynamism
            )
        )
    }

    public convenience init(
        _ scalars: [T], shape: [Int] = [], strides: [Int] = [], dimensionOrder: [Int] = [],
        shapeDynamism: ShapeDynamism = .dynamicBound
    ) {
        precondition(scalars.count == (shape.isEmpty ? [scalars.count] : shape).reduce(1, *))
        let size = MemoryLayout<T>.stride * scalars.count
        let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)  // never freed
        scalars.withUnsafeBytes { memory.copyMemory(from: $0.baseAddress!, byteCount: size) }
        self.init(bytesNoCopy: memory, shape: shape)
    }

    public func scalars() -> [T] {
        let count = anyTensor.shape.reduce(1, *)
        return Array(UnsafeBufferPointer(start: anyTensor.bytes.assumingMemoryBound(to: T.self), count: count))
    }
}

public final class Value {
    public let anyTensor: AnyTensor?

    public init(_ tensor: AnyTensor) {
        anyTensor = tensor
    }

    public func tensor<T: Scalar>() -> Tensor<T>? {
        anyTensor?.asTensor()
    }
}

public protocol ValueConvertible {
    func asValue() -> Value
}

public protocol ValueConstructible {
    static func from(_ value: Value) throws -> Self
}

public protocol ValueSequenceConstructible {
    static func from(_ values: [Value]) throws -> Self
}

extension Value: ValueConvertible {
    public func asValue() -> Value { self }
}

extension AnyTensor: ValueConvertible {
    public func asValue() -> Value { Value(self) }
}

extension Tensor: ValueConvertible {
    public func asValue() -> Value { Value(anyTensor) }
}

extension Value: ValueConstructible {
    public static func from(_ value: Value) throws -> Self { value as! Self }
}

extension Array: ValueSequenceConstructible where Element: ValueConstructible {
    public static func from(_ values: [Value]) throws -> [Element] { try values.map { try Element.from($0) } }
}

open class Module: NSObject {
    private let filePath: String

    public init(filePath: String, dataFilePaths: [String], loadMode: ModuleLoadMode) {
        self.filePath = filePath
        StubRuntime.loadMode = loadMode.rawValue
        super.init()
        StubRuntime.models.added()
    }

    deinit {
        StubRuntime.models.removed()
    }

    public convenience init(filePath: String, loadMode: ModuleLoadMode) {
        self.init(filePath: filePath, dataFilePaths: [], loadMode: loadMode)
    }

    public convenience init(filePath: String) {
        self.init(filePath: filePath, loadMode: .file)
    }

    open func load() throws {}

    open func load(_ methodName: String) throws {
        guard methodName == "forward", FileManager.default.fileExists(atPath: filePath) else {
            throw CocoaError(.fileNoSuchFile)
        }
        if let error = StubRuntime.loadError {
            throw error
        }
        StubRuntime.gate?()
    }
}

extension Module {
    public func forward(_ inputs: [ValueConvertible]) throws -> [Value] {
        StubRuntime.gate?()
        let tensor: Tensor<UInt8> = inputs[0].asValue().tensor()!
        precondition(tensor.anyTensor.shape.first == 1 && tensor.anyTensor.shape.last == 4)
        let others = inputs.dropFirst().map { input -> [Float] in
            let other: Tensor<Float> = input.asValue().tensor()!
            precondition(other.anyTensor.shape.first == 1)
            return other.scalars()
        }
        return StubRuntime.outputs(of: tensor.scalars(), others).map { _, values in
            Tensor<Float>(values, shape: [1, values.count]).asValue()
        }
    }

    public func forward(_ inputs: ValueConvertible...) throws -> [Value] {
        try forward(inputs)
    }

    public func forward<Output: ValueSequenceConstructible>(_ inputs: [ValueConvertible]) throws -> Output {
        try Output.from(forward(inputs) as [Value])
    }

    public func forward<Output: ValueSequenceConstructible>(_ inputs: ValueConvertible...) throws -> Output {
        try forward(inputs)
    }

    public func forward<Output: ValueSequenceConstructible>(_ input: ValueConvertible) throws -> Output {
        try forward([input])
    }
}
