// What only a stubbed runtime can show: the mask of a turned image, and several tasks at once.

import CoreGraphics
import Foundation
import ImageIO
import StubRuntime
import UIKit
import XCTest

@testable import __module__

final class SegmenterStubTests: XCTestCase {
    func testAnImageThatIsTurnedGivesTheMaskOfTheUprightOneAsItIsStored() async throws {
        let segmenter = try await Segmenter()
        let (width, height) = (ModelInfo.width, ModelInfo.height)
        let name = try XCTUnwrap(Vectors.load().golden.first).name
        let upright = try Array(Vectors.data("golden/\(name).rgba"))
        let expected = try await segmenter.segment(CGImage.make(from: Data(upright), width: width, height: height))
        XCTAssertGreaterThan(Set(expected.classes).count, 1)
        // stored a quarter turn counterclockwise: EXIF's 6 turns it back
        var stored = [UInt8](repeating: 0, count: upright.count)
        for y in 0..<height {
            for x in 0..<width {
                for channel in 0..<4 {
                    stored[((width - 1 - x) * height + y) * 4 + channel] = upright[(y * width + x) * 4 + channel]
                }
            }
        }
        let turned = try CGImage.make(from: Data(stored), width: height, height: width)
        let found = try await segmenter.segment(turned, orientation: .right)
        XCTAssertTrue(StubRuntime.lastInput.elementsEqual(upright))
        XCTAssertEqual([found.width, found.height], [height, width])
        for y in 0..<height {
            for x in 0..<width {
                XCTAssertEqual(found[y, width - 1 - x], expected[x, y])
            }
        }
        let again = try await segmenter.segment(UIImage(cgImage: turned, scale: 1, orientation: .right))
        XCTAssertEqual(again, found)
        let photo = try await segmenter.segment(StubImages.file(height, width, 6, Data(stored)))
        XCTAssertEqual(photo, found)
    }

    func testSeveralTasksMaySegment() async throws {
        let segmenter = try await Segmenter()
        let golden = try Vectors.load().golden
        let images = try golden.map {
            try CGImage.make(from: Vectors.data("golden/\($0.name).rgba"), width: ModelInfo.width, height: ModelInfo.height)
        }
        var alone: [Mask] = []
        for image in images {
            alone.append(try await segmenter.segment(image))
        }
        try await withThrowingTaskGroup(of: (Int, Mask).self) { group in
            for (number, image) in images.enumerated() {
                group.addTask { (number, try await segmenter.segment(image)) }
            }
            for try await (number, found) in group {
                XCTAssertEqual(found, alone[number])
            }
        }
    }
}
