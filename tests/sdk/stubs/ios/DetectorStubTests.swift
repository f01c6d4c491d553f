// What only a stubbed runtime can show: where the objects in a turned image lie, and what is refused.

import CoreGraphics
import Foundation
import ImageIO
import StubRuntime
import UIKit
import XCTest

@testable import __module__

final class DetectorStubTests: XCTestCase {
    func testAnImageThatIsTurnedGivesTheObjectsOfTheUprightOne() async throws {
        let detector = try await Detector()
        let (width, height) = (ModelInfo.width, ModelInfo.height)
        let name = try XCTUnwrap(Vectors.load().golden.first).name
        let upright = try Array(Vectors.data("golden/\(name).rgba"))
        let expected = try await detector.detect(CGImage.make(from: Data(upright), width: width, height: height), minScore: 0)
        XCTAssertFalse(expected.isEmpty)
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
        let found = try await detector.detect(turned, minScore: 0, orientation: .right)
        XCTAssertTrue(StubRuntime.lastInput.elementsEqual(upright))
        XCTAssertEqual(found, expected)
        let image = UIImage(cgImage: turned, scale: 1, orientation: .right)
        let again = try await detector.detect(image, minScore: 0)
        XCTAssertEqual(again, expected)
    }

    func testBoxesOfALargePhotoAreInPixelsOfItsFile() async throws {
        let detector = try await Detector()
        let photo = StubImages.file(DecodedPhoto.maxPixels + 2, 1, 6)
        let decoded = try DecodedPhoto(data: photo)
        XCTAssertEqual([decoded.width, decoded.image.width], [DecodedPhoto.maxPixels + 2, DecodedPhoto.maxPixels / 2 + 1])
        let small = try await detector.detect(decoded.image, minScore: 0, orientation: .right)
        let found = try await detector.detect(photo, minScore: 0)
        XCTAssertFalse(small.isEmpty)
        XCTAssertEqual(found.map(\.label), small.map(\.label))
        for (large, small) in zip(found.map(\.box), small.map(\.box)) {
            // upright, the file's only row is a column
            XCTAssertEqual([large.left, large.right], [small.left, small.right])
            XCTAssertEqual([large.top, large.bottom], [2 * small.top, 2 * small.bottom])
        }
    }

    func testAScoreThatIsNoneIsRefused() async throws {
        let detector = try await Detector()
        let image = try CGImage.make(from: Data(repeating: 7, count: 4), width: 1, height: 1)
        for score in [-0.1, 1.1, .nan] {
            do {
                _ = try await detector.detect(image, minScore: score)
                XCTFail("\(score) was taken")
            } catch DetectorError.invalidMinScore {
            }
        }
    }

    func testSeveralTasksMayDetect() async throws {
        let detector = try await Detector()
        let golden = try Vectors.load().golden
        let images = try golden.map {
            try CGImage.make(from: Vectors.data("golden/\($0.name).rgba"), width: ModelInfo.width, height: ModelInfo.height)
        }
        var alone: [[Detection]] = []
        for image in images {
            alone.append(try await detector.detect(image))
        }
        try await withThrowingTaskGroup(of: (Int, [Detection]).self) { group in
            for (number, image) in images.enumerated() {
                group.addTask { (number, try await detector.detect(image)) }
            }
            for try await (number, found) in group {
                XCTAssertEqual(found, alone[number])
            }
        }
    }
}
