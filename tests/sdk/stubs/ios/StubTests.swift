// What only a stubbed runtime can show: which bytes the classifier hands over, and how often a model is compiled.

import CoreGraphics
import Foundation
import ImageIO
import StubRuntime
import UIKit
import XCTest

@testable import __module__

#if canImport(CoreML)
import CoreML
#endif

final class StubTests: XCTestCase {
    func testTheRuntimeGetsTheExpectedBytes() async throws {
        let classifier = try await Classifier()
        var orientations: Set<UInt32> = []
        for image in try Vectors.load().pixels {
            // as Core Graphics holds a transparent image: on black
            var source = try Vectors.data("pixels/\(image.name).rgba")
            for pixel in stride(from: 0, to: source.count, by: 4) {
                for channel in 0..<3 {
                    source[pixel + channel] = UInt8((2 * Int(source[pixel + channel]) * Int(source[pixel + 3]) + 255) / 510)
                }
            }
            let opened = try CGImage.make(from: source, width: image.width, height: image.height)
            let orientation = try XCTUnwrap(CGImagePropertyOrientation(rawValue: image.orientation))
            _ = try await classifier.classify(opened, orientation: orientation)
            let expected = try Vectors.data("pixels/\(image.name).expected.rgba")
            XCTAssertTrue(StubRuntime.lastInput.elementsEqual(expected), image.name)
            orientations.insert(image.orientation)
        }
        XCTAssertEqual(orientations, Set(1...8))
    }

    func testAnImageOfUIKitIsTurned() async throws {
        let turns: [(UIImage.Orientation, UInt32)] = [
            (.up, 1), (.upMirrored, 2), (.down, 3), (.downMirrored, 4), (.leftMirrored, 5), (.right, 6),
            (.rightMirrored, 7), (.left, 8),
        ]
        let classifier = try await Classifier()
        let rgba = Data((0..<4 * 40 * 50).map { UInt8(truncatingIfNeeded: $0 * $0 / 7) })
        let image = try CGImage.make(from: rgba, width: 40, height: 50)
        for (orientation, number) in turns {
            _ = try await classifier.classify(UIImage(cgImage: image, scale: 1, orientation: orientation))
            let found = StubRuntime.lastInput
            let turned = try XCTUnwrap(CGImagePropertyOrientation(rawValue: number))
            _ = try await classifier.classify(image, orientation: turned)
            XCTAssertEqual(StubRuntime.lastInput, found)
        }
    }

    func testTopKIsChecked() async throws {
        let classifier = try await Classifier()
        let image = try CGImage.make(from: Data(repeating: 7, count: 4), width: 1, height: 1)
        let all = try await classifier.classify(image, topK: 1_000_000)
        XCTAssertEqual(all.map(\.label), Classifier.labels)
        do {
            _ = try await classifier.classify(image, topK: 0)
            XCTFail("no class at all was given out")
        } catch {
            XCTAssertEqual(error as? ClassifierError, .invalidTopK(0))
        }
    }

    func testSeveralTasksMayClassify() async throws {
        let classifier = try await Classifier()
        let golden = try Vectors.load().golden
        let images = try golden.map {
            let rgba = try Vectors.data("golden/\($0.name).rgba")
            return try CGImage.make(from: rgba, width: ModelInfo.width, height: ModelInfo.height)
        }
        try await withThrowingTaskGroup(of: (Int, [Classification]).self) { group in
            for (number, image) in images.enumerated() {
                group.addTask { (number, try await classifier.classify(image)) }
            }
            for try await (number, found) in group {
                XCTAssertEqual(found.map(\.index), golden[number].top.map(\.index))
            }
        }
    }

    func testAPhotoOfAFileIsReadAsItsPixelsAre() async throws {
        let classifier = try await Classifier()
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).img")
        defer { try? FileManager.default.removeItem(at: url) }
        for image in try Vectors.load().pixels {
            let rgba = try Vectors.data("pixels/\(image.name).rgba")
            let photo = StubImages.file(image.width, image.height, image.orientation, rgba)
            let opened = try DecodedPhoto(data: photo)
            XCTAssertEqual(opened.subsampling, 1)
            XCTAssertEqual([opened.width, opened.height], [image.width, image.height])
            XCTAssertEqual(opened.orientation.rawValue, image.orientation)
            let expected = try await classifier.classify(opened.image, orientation: opened.orientation)
            let input = StubRuntime.lastInput
            let found = try await classifier.classify(photo)
            XCTAssertEqual(StubRuntime.lastInput, input, image.name)
            XCTAssertEqual(found, expected)
            try photo.write(to: url)
            _ = try await classifier.classify(contentsOf: url)
            XCTAssertEqual(StubRuntime.lastInput, input, image.name)
        }
    }

    func testLargePhotosAreDecodedAtABoundedSize() async throws {
        let most = DecodedPhoto.maxPixels
        for (width, height, factor) in [
            (4032, 3024, 1), (4096, 4096, 1), (4097, 4096, 2), (8064, 6048, 2), (16320, 12240, 4), (1, most + 1, 2),
        ] {
            XCTAssertEqual(DecodedPhoto.subsampling(width: width, height: height), factor)
        }
        guard ModelInfo.fit == .crop else {
            return  // a letterbox reads all pixels, which takes the stub long
        }
        let classifier = try await Classifier()
        StubImages.largest = 0
        _ = try await classifier.classify(StubImages.file(2 * most + 2, 1, 6))
        XCTAssertEqual(StubImages.largest, (2 * most + 2 + 3) / 4)
        XCTAssertEqual(try DecodedPhoto(data: StubImages.file(2 * most + 2, 1, 6)).subsampling, 4)
    }

    func testFilesThatCannotBeReadSayWhy() async throws {
        let classifier = try await Classifier()
        do {
            _ = try await classifier.classify(Data("no image".utf8))
            XCTFail("text was classified")
        } catch {
            XCTAssertEqual(error as? ClassifierError, .imageUnreadable)
        }
        do {
            _ = try await classifier.classify(contentsOf: URL(fileURLWithPath: "/no/such/photo"))
            XCTFail("nothing was classified")
        } catch ClassifierError.fileUnreadable(let reason) {
            XCTAssertFalse(reason.isEmpty)
        }
    }

    func testCancellingAClassificationWaitsForNothing() async throws {
        let classifier = try await Classifier()
        let gate = Gate()
        let image = try CGImage.make(from: Data(repeating: 7, count: 4), width: 1, height: 1)
        let running = Task { try await classifier.classify(image) }
        await gate.reached()
        let waiting = Task { try await classifier.classify(image) }
        for task in [waiting, running] {
            task.cancel()
            do {
                _ = try await task.value
                XCTFail("it was classified")
            } catch {
                XCTAssertTrue(error is CancellationError, "\(error)")
            }
        }
        gate.open()
        _ = try await classifier.classify(image)
        XCTAssertEqual(gate.passed, 2, "what was cancelled before it began has run")
    }

    func testCancellingCreationLeaksNoModel() async throws {
        await modelsBecome(0)
        let gate = Gate()
        let creating = Task { try await Classifier() }
        await gate.reached()
        creating.cancel()
        do {
            _ = try await creating.value
            XCTFail("it was made")
        } catch {
            XCTAssertTrue(error is CancellationError, "\(error)")
        }
        gate.open()
        await modelsBecome(0)
    }

    func testLettingGoWaitsForNothing() async throws {
        await modelsBecome(0)
        var classifier: Classifier? = try await Classifier()
        let image = try CGImage.make(from: Data(repeating: 7, count: 4), width: 1, height: 1)
        let gate = Gate()
        let running = Task { [classifier] in try await classifier?.classify(image) }
        await gate.reached()
        running.cancel()
        _ = await running.result
        classifier = nil  // comes back while the model is still at work
        XCTAssertEqual(StubRuntime.models.now, 1)
        gate.open()
        await modelsBecome(0)
    }

    func testTheMainThreadFreesNoModel() async throws {
        await modelsBecome(0)
        let onMain = StubRuntime.models.freedOnMain
        // whether the queue or the thread that lets go is faster is chance
        for _ in 0..<30 {
            let held = Held(try await Classifier())
            await MainActor.run { held.classifier = nil }
            await modelsBecome(0)
        }
        XCTAssertEqual(StubRuntime.models.freedOnMain, onMain)
    }

    private final class Held: @unchecked Sendable {
        var classifier: Classifier?

        init(_ classifier: Classifier) {
            self.classifier = classifier
        }
    }

    private func modelsBecome(_ count: Int) async {
        for _ in 0..<500 where StubRuntime.models.now != count {
            try? await Task.sleep(nanoseconds: 10_000_000)
        }
        XCTAssertEqual(StubRuntime.models.now, count)
    }

    #if canImport(CoreML)
    func testTheModelIsCompiledOnce() async throws {
        let kept = try CompiledModel.keptLocation()
        try? FileManager.default.removeItem(at: kept)
        let before = MLModel.compilations
        _ = try await Classifier()
        _ = try await Classifier()
        guard CompiledModel.built == nil else {
            return XCTAssertEqual(MLModel.compilations, before, "it was compiled by the build")
        }
        XCTAssertEqual(MLModel.compilations, before + 1)
        // as after an update of the system: what is kept does not load
        try FileManager.default.removeItem(at: kept.appendingPathComponent("Manifest.json"))
        _ = try await Classifier()
        _ = try await Classifier()
        XCTAssertEqual(MLModel.compilations, before + 2)
    }

    func testClassifiersMayBeMadeAtOnce() async throws {
        for attempt in 0..<10 {
            let kept = try CompiledModel.keptLocation()
            try? FileManager.default.removeItem(at: kept)
            if attempt % 2 == 1 {  // one that does not load
                try FileManager.default.createDirectory(at: kept, withIntermediateDirectories: true)
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask { _ = try await Classifier() }
                }
                try await group.waitForAll()
            }
        }
    }

    func testModelsOfOtherVersionsOfTheAppGo() async throws {
        let kept = try CompiledModel.keptLocation()
        try? FileManager.default.removeItem(at: kept)
        let old = kept.deletingLastPathComponent().appendingPathComponent("old.mlmodelc")
        try Data().write(to: old)
        _ = try await Classifier()
        XCTAssertEqual(FileManager.default.fileExists(atPath: old.path), CompiledModel.built != nil)
        let caches = try FileManager.default.url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: false)
        XCTAssertFalse(kept.path.hasPrefix(caches.path))
    }

    func testTheGPUIsNotAskedForWhereNobodyWantsIt() async throws {
        let classifier = try await Classifier()
        XCTAssertEqual(StubRuntime.lastUnits, MLComputeUnits.cpuAndNeuralEngine.rawValue)
        XCTAssertEqual(classifier.computeUnits, .cpuAndNeuralEngine)
        XCTAssertNil(classifier.fallback)
        for (units, expected) in [
            (ComputeUnits.cpu, MLComputeUnits.cpuOnly), (.cpuAndGPU, .cpuAndGPU), (.all, .all),
        ] {
            _ = try await Classifier(computeUnits: units)
            XCTAssertEqual(StubRuntime.lastUnits, expected.rawValue)
        }
    }

    func testTheCPUTakesOverInTheBackgroundAndNoLonger() async throws {
        defer { StubRuntime.refusals = [:] }
        let classifier = try await Classifier(computeUnits: .cpuAndGPU)
        let image = try CGImage.make(from: Data(repeating: 7, count: 4), width: 1, height: 1)
        let expected = try await classifier.classify(image)
        StubRuntime.refusals = [MLComputeUnits.cpuAndGPU.rawValue: Self.inBackground]
        let found = try await classifier.classify(image)
        XCTAssertEqual(found, expected)
        XCTAssertEqual(classifier.computeUnits, .cpu)
        XCTAssertEqual(classifier.fallback, .gpuInBackground)
        StubRuntime.refusals = [:]
        _ = try await classifier.classify(image)
        XCTAssertEqual(classifier.computeUnits, .cpuAndGPU)
        XCTAssertNil(classifier.fallback)
    }

    func testUnitsThatFailForGoodAreNotTriedAgain() async throws {
        defer { StubRuntime.refusals = [:] }
        let classifier = try await Classifier(computeUnits: .all)
        let image = try CGImage.make(from: Data(repeating: 7, count: 4), width: 1, height: 1)
        StubRuntime.refusals = [MLComputeUnits.all.rawValue: NSError(domain: "com.apple.CoreML", code: 0)]
        _ = try await classifier.classify(image)
        guard case .runtime = classifier.fallback else {
            return XCTFail("\(String(describing: classifier.fallback))")
        }
        StubRuntime.refusals = [:]
        _ = try await classifier.classify(image)
        XCTAssertEqual(classifier.computeUnits, .cpu)
    }

    func testAFallbackCanBeForbidden() async throws {
        defer { (StubRuntime.refusals, StubRuntime.unitsThatDoNotLoad) = ([:], []) }
        let classifier = try await Classifier(computeUnits: .all, allowsFallback: false)
        let image = try CGImage.make(from: Data(repeating: 7, count: 4), width: 1, height: 1)
        StubRuntime.refusals = [MLComputeUnits.all.rawValue: Self.inBackground]
        do {
            _ = try await classifier.classify(image)
            XCTFail("it was classified")
        } catch {
            XCTAssertEqual(error as? ClassifierError, .computeUnitsRefused(.all, reason: .gpuInBackground))
        }
        StubRuntime.unitsThatDoNotLoad = [MLComputeUnits.cpuAndNeuralEngine.rawValue]
        do {
            _ = try await Classifier(allowsFallback: false)
            XCTFail("it was made")
        } catch ClassifierError.computeUnitsRefused(let units, .runtime) {
            XCTAssertEqual(units, .cpuAndNeuralEngine)
        }
    }

    func testUnitsThatDoNotLoadAreNoReasonToCompileAgain() async throws {
        defer { StubRuntime.unitsThatDoNotLoad = [] }
        _ = try await Classifier()
        let before = MLModel.compilations
        StubRuntime.unitsThatDoNotLoad = [MLComputeUnits.cpuAndNeuralEngine.rawValue]
        let classifier = try await Classifier()
        XCTAssertEqual(MLModel.compilations, before)
        XCTAssertEqual(classifier.computeUnits, .cpu)
        StubRuntime.unitsThatDoNotLoad.insert(MLComputeUnits.cpuOnly.rawValue)
        do {
            _ = try await Classifier()
            XCTFail("it was made")
        } catch ClassifierError.modelUnusable(let reason) {
            XCTAssertFalse(reason.isEmpty)
        }
    }

    /// As Core ML wraps what Metal says.
    private static let inBackground = NSError(
        domain: "com.apple.CoreML", code: 0,
        userInfo: [
            NSUnderlyingErrorKey: NSError(
                domain: "MTLCommandBufferErrorDomain", code: 7,
                userInfo: [
                    NSLocalizedDescriptionKey: "Insufficient Permission (to submit GPU work from background) "
                        + "(00000006:kIOGPUCommandBufferCallbackErrorBackgroundExecutionNotPermitted)"
                ]
            )
        ]
    )
    #else
    func testTheProgramIsMappedAndNotCopied() async throws {
        _ = try await Classifier()
        XCTAssertEqual(StubRuntime.loadMode, 1)
    }

    func testAnAppThatLacksTheBackendIsToldSo() async throws {
        defer { StubRuntime.loadError = nil }
        for code in [20, 32] {  // an operator that is missing, a backend that is not registered
            StubRuntime.loadError = NSError(domain: "org.pytorch.executorch.error", code: code)
            do {
                _ = try await Classifier()
                XCTFail("it was made")
            } catch let error as ClassifierError {
                guard case .runtimeIncomplete = error else {
                    return XCTFail("\(error)")
                }
                XCTAssertTrue(error.localizedDescription.contains("-all_load"))
            }
        }
        StubRuntime.loadError = NSError(domain: "org.pytorch.executorch.error", code: 35)
        do {
            _ = try await Classifier()
            XCTFail("it was made")
        } catch ClassifierError.modelUnusable(let reason) {
            XCTAssertFalse(reason.isEmpty)
        }
    }
    #endif
}

/// Holds what comes to the stub's runtime until it is opened.
private final class Gate: Sendable {
    private let counted = Counted()
    private let arrived = DispatchSemaphore(value: 0)
    private let opened = DispatchSemaphore(value: 0)

    private final class Counted: @unchecked Sendable {
        let lock = NSLock()
        var count = 0
    }

    init() {
        StubRuntime.gate = { [counted, arrived, opened] in
            counted.lock.withLock { counted.count += 1 }
            arrived.signal()
            opened.wait()
            opened.signal()
        }
    }

    deinit {
        StubRuntime.gate = nil
    }

    var passed: Int { counted.lock.withLock { counted.count } }

    func open() {
        opened.signal()
    }

    /// Until something is held.
    func reached() async {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async { [arrived] in
                arrived.wait()
                continuation.resume()
            }
        }
    }
}
