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

    #if canImport(CoreML)
    func testTheModelIsCompiledOnce() async throws {
        let kept = try CompiledModel.keptLocation()
        try? FileManager.default.removeItem(at: kept)
        let before = MLModel.compilations
        _ = try await Classifier()
        _ = try await Classifier()
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
    #endif
}
