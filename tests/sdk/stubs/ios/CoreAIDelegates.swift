// The part of CoreAI that makes a model ready for a device's processors; sources: CoreAIRuntime.swift.
//
// How a stub's model is told to run: as Core ML's compute units are numbered (CPU 0, GPU 1, any 2, Neural Engine 3).

import CoreAIRuntime
import Foundation
import StubRuntime

public enum ComputeUnitKind: Hashable, Sendable {
    case cpu
    case gpu
    case neuralEngine
}

public struct SpecializationOptions: Hashable, Sendable {
    let number: Int

    public static let `default` = SpecializationOptions(number: 2)
    public static let cpuOnly = SpecializationOptions(number: 0)

    init(number: Int) {
        self.number = number
    }

    public init(preferredComputeUnitKind: ComputeUnitKind) {
        number =
            switch preferredComputeUnitKind {
            case .cpu: 0
            case .gpu: 1
            case .neuralEngine: 3
            }
    }
}

extension AIModel {
    public init(contentsOf modelURL: URL, options: SpecializationOptions = .default) async throws {
        guard FileManager.default.fileExists(atPath: modelURL.appendingPathComponent("main.mlirb").path) else {
            throw CocoaError(.fileReadCorruptFile)
        }
        if StubRuntime.coreAIError != nil || StubRuntime.unitsThatDoNotLoad.contains(options.number) {
            throw StubRuntime.coreAIError ?? CocoaError(.featureUnsupported)
        }
        self.init(units: options.number)
    }

    public func loadFunction(named functionName: String) throws -> InferenceFunction? {
        guard functionName == "main" else {
            return nil
        }
        StubRuntime.lastUnits = units
        StubRuntime.gate?()
        return InferenceFunction(units: units)
    }
}
