// What only a stubbed runtime can show: which bytes and numbers the extractor hands over, and what it refuses.

import CoreGraphics
import Foundation
import ImageIO
import StubRuntime
import UIKit
import XCTest

@testable import __module__

final class FeatureStubTests: XCTestCase {
    private let pose: [Float] = [1, -2, 3, 0.5, 0, -0.25]

    func testTheRuntimeGetsTheExpectedBytesAndNumbers() async throws {
        let extractor = try await FeatureExtractor()
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
            _ = try await extractor.extract(opened, cameraPose: pose, orientation: orientation)
            let expected = try Vectors.data("pixels/\(image.name).expected.rgba")
            XCTAssertTrue(StubRuntime.lastInput.elementsEqual(expected), image.name)
            XCTAssertEqual(StubRuntime.lastTensors, [pose])
            _ = try await extractor.extract(UIImage(cgImage: opened, scale: 1, orientation: .up), cameraPose: pose)
            let file = StubImages.file(image.width, image.height, image.orientation, source)
            _ = try await extractor.extract(file, cameraPose: pose)
            XCTAssertTrue(StubRuntime.lastInput.elementsEqual(expected), image.name)
        }
    }

    func testWrongInputsDoNotReachTheRuntime() async throws {
        let extractor = try await FeatureExtractor()
        let image = try CGImage.make(from: Data(repeating: 7, count: 4), width: 1, height: 1)
        StubRuntime.lastInput = []
        let inputs: [[Float]] = [pose + [1], [], pose.prefix(5) + [.nan]]
        for wrong in inputs {
            do {
                _ = try await extractor.extract(image, cameraPose: wrong)
                XCTFail("\(wrong) was taken")
            } catch FeatureExtractorError.invalidInput(let name, let reason) {
                XCTAssertEqual(name, "camera_pose")
                XCTAssertEqual(reason, wrong.count == 6 ? "has nan at 5; it must be finite" : "takes 6 values, not \(wrong.count)")
            }
        }
        XCTAssertEqual(StubRuntime.lastInput, [])
    }

    func testSeveralTasksMayExtract() async throws {
        let extractor = try await FeatureExtractor()
        let golden = try Vectors.load().golden
        let images = try golden.map {
            let rgba = try Vectors.data("golden/\($0.name).rgba")
            return try CGImage.make(from: rgba, width: ModelInfo.width, height: ModelInfo.height)
        }
        let rows = try Vectors.rows("int8")
        try await withThrowingTaskGroup(of: (Int, Features).self) { group in
            for (number, image) in images.enumerated() {
                let inputs = try Vectors.inputs(of: golden[number].name)
                group.addTask { (number, try await extractor.extract(image, cameraPose: inputs[0])) }
            }
            for try await (number, found) in group {
                XCTAssertEqual(found[.embedding].values + found[.heatMap].values, rows[number])
                XCTAssertEqual(found["heat_map"]?.shape, [2, 3, 4])
            }
        }
    }
}
