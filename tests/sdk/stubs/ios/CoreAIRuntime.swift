// CoreAI, the part that the kit uses. A model is a folder with a program in it, and a prediction is StubRuntime's.
//
// Sources, for none of it was compared with the SDK itself:
// - Apple's documentation of Core AI for iOS 27 (developer.apple.com/documentation/coreai, read in November 2026): declarations,
//   conformances, what the functions do, and the compiler's own identifier of most symbols, which has their module, name and type.
//   `tests/sdk/real/apple.txt` has a line for each that the kit uses; a test holds its names to the identifiers, and every kit that is
//   built with this stub holds what it uses of it to these names.
// - Swift code of github.com/apple/coreai-models at 86b363d, which calls the same functions in the same way.
// - The cases of `ScalarType` in the runtime of Apple's Python package coreai-core 1.0.0b3: `uint8` has no page that could be had.
//
// Inferred, or otherwise than in truth:
// - `withUnsafeMutablePointer`, `scalarType`, `strides` and `gpu` were read as declarations, without an identifier.
// - `Span` is the standard library's since Swift 6.2; this compiler may be older, and has one of this module.
// - Views cannot outlive their array in truth (they are not escapable); here nothing sees to that.
// - `InferenceValue`, `Outputs` and `MutableViews` cannot be copied here, and `Outputs` is not sendable: documentation says that reading
//   an array consumes the value, and lists no conformance to either. What compiles so compiles where they can be, too.
// - Outputs lie in padded rows, as descriptors' preferred strides may ask for; how they lie on a device is not known.

import Foundation
import StubRuntime

public struct AIModel: Sendable {
    package let units: Int

    package init(units: Int) {
        self.units = units
    }
}

public struct Span<Element> {
    let elements: [Element]

    public var count: Int { elements.count }
    public subscript(_ position: Int) -> Element { elements[position] }
}

public struct NDArray: Sendable {
    public enum ScalarType: Hashable, Sendable {
        case uint8
        case float32

        var bytes: Int { self == .uint8 ? 1 : 4 }
    }

    public struct InterleaveLayout: Hashable, Sendable {
        public let dimension: Int
        public let factor: Int
    }

    public struct View<Element: BitwiseCopyable> {
        let array: NDArray

        public func withUnsafePointer<R, E: Error>(
            _ body: (UnsafePointer<Element>, Span<Int>, Span<Int>) throws(E) -> R
        ) throws(E) -> R {
            let start = UnsafePointer(array.memory.bytes.assumingMemoryBound(to: Element.self))
            return try body(start, Span(elements: array.shape), Span(elements: array.strides))
        }
    }

    public struct MutableView<Element: BitwiseCopyable>: ~Copyable {
        let array: NDArray

        public consuming func withUnsafeMutablePointer<R, E: Error>(
            _ body: (UnsafeMutablePointer<Element>, Span<Int>, Span<Int>) throws(E) -> R
        ) throws(E) -> R {
            let start = array.memory.bytes.assumingMemoryBound(to: Element.self)
            return try body(start, Span(elements: array.shape), Span(elements: array.strides))
        }
    }

    final class Memory: @unchecked Sendable {
        let bytes: UnsafeMutableRawPointer
        let count: Int

        init(count: Int) {
            self.count = count
            bytes = .allocate(byteCount: count, alignment: 16)
            bytes.initializeMemory(as: UInt8.self, repeating: 0xA5, count: count)
        }

        deinit {
            bytes.deallocate()
        }
    }

    public let shape: [Int]
    public let scalarType: ScalarType
    public let strides: [Int]
    public let interleaveLayout: InterleaveLayout?
    var memory: Memory

    public init(shape: [Int], scalarType: ScalarType) {
        self.init(shape: shape, scalarType: scalarType, padding: 0)
    }

    /// The last axis lies in rows with so many unused elements behind each.
    init(shape: [Int], scalarType: ScalarType, padding: Int, isInterleaved: Bool = false) {
        var strides: [Int] = []
        var next = 1
        for length in shape.reversed() {
            strides.insert(next, at: 0)
            next = next * length + (strides.count == 1 ? padding : 0)
        }
        (self.shape, self.scalarType, self.strides) = (shape, scalarType, strides)
        interleaveLayout = isInterleaved ? InterleaveLayout(dimension: 0, factor: 2) : nil
        memory = Memory(count: next * scalarType.bytes)
    }

    public init<Scalar: BitwiseCopyable>(scalars: some Sequence<Scalar>, shape: [Int]) {
        self.init(shape: shape, scalarType: Scalar.self == UInt8.self ? .uint8 : .float32)
        let values = Array(scalars)
        precondition(values.count == shape.reduce(1, *) && (Scalar.self == UInt8.self || Scalar.self == Float.self))
        values.withUnsafeBytes { memory.bytes.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }

    public func view<T: BitwiseCopyable>(as type: T.Type = T.self) -> View<T> {
        check(type)
        return View(array: self)
    }

    public mutating func mutableView<T: BitwiseCopyable>(as type: T.Type = T.self) -> MutableView<T> {
        check(type)
        if !isKnownUniquelyReferenced(&memory) {
            let copy = Memory(count: memory.count)
            copy.bytes.copyMemory(from: memory.bytes, byteCount: memory.count)
            memory = copy
        }
        return MutableView(array: self)
    }

    private func check<T>(_ type: T.Type) {
        precondition(scalarType == (T.self == UInt8.self ? .uint8 : .float32), "the array is of \(scalarType)")
    }

    /// Of an array whose rows are not padded.
    func values<T>(as type: T.Type) -> [T] {
        check(type)
        let start = memory.bytes.assumingMemoryBound(to: T.self)
        return Array(UnsafeBufferPointer(start: start, count: shape.reduce(1, *)))
    }
}

public struct InferenceValue: ~Copyable {
    let array: NDArray?

    public var ndArray: NDArray? {
        consuming get { array }
    }
}

public struct InferenceFunction: Sendable {
    public struct Outputs: ~Copyable {
        var arrays: [String: NDArray]

        public mutating func remove(_ outputName: String) -> InferenceValue? {
            guard let array = arrays.removeValue(forKey: outputName) else {
                return nil
            }
            return InferenceValue(array: array)
        }
    }

    public struct MutableViews: ~Copyable {
        public init() {}
    }

    /// There as long as somebody has the function.
    private final class Resources: Sendable {
        init() {
            StubRuntime.models.added()
        }

        deinit {
            StubRuntime.models.removed()
        }
    }

    private let units: Int
    private let resources = Resources()

    package init(units: Int) {
        self.units = units
    }

    public func run(
        inputs: [String: NDArray], states: consuming MutableViews = MutableViews(),
        outputViews: consuming MutableViews = MutableViews()
    ) async throws -> Outputs {
        StubRuntime.gate?()
        if let refusal = StubRuntime.refusals[units] {
            throw refusal
        }
        let names = StubRuntime.inputNames
        guard let pixels = inputs["pixels"], Set(inputs.keys) == Set(names + ["pixels"]),
            pixels.shape.first == 1 && pixels.shape.last == 4
        else {
            throw CocoaError(.featureUnsupported)
        }
        StubRuntime.lastRuntime = "Core AI"
        let tensors = names.map { name in
            precondition(inputs[name]!.shape.first == 1)
            return inputs[name]!.values(as: Float.self)
        }
        var found: [String: NDArray] = [:]
        for (name, values) in StubRuntime.outputs(of: pixels.values(as: UInt8.self), tensors) {
            found[name] = output(values)
        }
        return Outputs(arrays: found)
    }

    private func output(_ values: [Float]) -> NDArray {
        let rows = values.count % 2 == 0 ? 2 : 1
        let array = NDArray(
            shape: [1, rows, values.count / rows], scalarType: .float32, padding: 5,
            isInterleaved: StubRuntime.isInterleaved
        )
        let start = array.memory.bytes.assumingMemoryBound(to: Float.self)
        for (number, value) in values.enumerated() {
            start[number / array.shape[2] * array.strides[1] + number % array.shape[2]] = value
        }
        return array
    }
}
