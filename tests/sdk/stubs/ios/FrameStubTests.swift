// What only a stubbed runtime can show of frames and batches: which bytes the classifier hands over, and in which order it answers.

import CoreGraphics
import CoreVideo
import Foundation
import ImageIO
import StubRuntime
import XCTest

@testable import __module__

final class FrameStubTests: XCTestCase {
    func testAFrameReachesTheRuntimeAsTheExpectedBytes() async throws {
        let classifier = try await Classifier()
        for image in try Vectors.load().golden {
            let rgba = try Array(Vectors.data("golden/\(image.name).rgba"))
            let found = try await classifier.classify(CameraFrame(packed(rgba, orientation: .up)), topK: 3)
            XCTAssertTrue(StubRuntime.lastInput.elementsEqual(rgba))
            let opened = try CGImage.make(from: Data(rgba), width: ModelInfo.width, height: ModelInfo.height)
            let expected = try await classifier.classify(opened, topK: 3)
            XCTAssertEqual(found, expected)
        }
    }

    func testAFrameThatIsTurnedIsTheUprightOne() async throws {
        let classifier = try await Classifier()
        let name = try XCTUnwrap(Vectors.load().golden.first).name
        let rgba = try Array(Vectors.data("golden/\(name).rgba"))
        _ = try await classifier.classify(CameraFrame(packed(rgba, orientation: .right), orientation: .right))
        XCTAssertTrue(StubRuntime.lastInput.elementsEqual(rgba))
    }

    func testABatchGivesWhatEachPhotoGives() async throws {
        let classifier = try await Classifier()
        let photos = try Vectors.load().golden.map { image in
            let rgba = try Vectors.data("golden/\(image.name).rgba")
            return PhotoSource.image(try CGImage.make(from: rgba, width: ModelInfo.width, height: ModelInfo.height))
        }
        var alone: [[Classification]] = []
        for case .image(let image, _) in photos {
            alone.append(try await classifier.classify(image, topK: 3))
        }
        XCTAssertGreaterThan(Set(alone).count, 1)
        let unreadable = [PhotoSource.data(Data("no image".utf8)), .file(URL(fileURLWithPath: "/no/such/file"))]
        let found = try await classifier.classifyAll(photos + unreadable + photos, topK: 3)
        XCTAssertEqual(found.prefix(alone.count).map { try? $0.get() }, alone)
        XCTAssertEqual(found[alone.count], .failure(.imageUnreadable))
        guard case .failure(.fileUnreadable) = found[alone.count + 1] else {
            return XCTFail("\(found[alone.count + 1])")
        }
        XCTAssertEqual(found.suffix(alone.count).map { try? $0.get() }, alone)
        let none = try await classifier.classifyAll([])
        XCTAssertEqual(none, [])
        do {
            _ = try await classifier.classifyAll(photos, topK: 0)
            XCTFail("0 classes were given")
        } catch ClassifierError.invalidTopK(0) {
        }
    }

    func testABatchThatIsCancelledEnds() async throws {
        let classifier = try await Classifier()
        let photos = [PhotoSource](repeating: .data(Data("no image".utf8)), count: 100)
        let batch = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await classifier.classifyAll(photos)
        }
        do {
            _ = try await batch.value
            XCTFail("it was not cancelled")
        } catch is CancellationError {
        }
    }

    /// A buffer of the input's pixels, stored so that the orientation turns them back.
    private func packed(_ rgba: [UInt8], orientation: CGImagePropertyOrientation) throws -> CVPixelBuffer {
        let (width, height) = (ModelInfo.width, ModelInfo.height)
        let isTurned = orientation == .right
        let (columns, rows) = isTurned ? (height, width) : (width, height)
        var buffer: CVPixelBuffer?
        CVPixelBufferCreate(kCFAllocatorDefault, columns, rows, kCVPixelFormatType_32BGRA, nil, &buffer)
        let made = try XCTUnwrap(buffer)
        CVPixelBufferLockBaseAddress(made, [])
        defer { CVPixelBufferUnlockBaseAddress(made, []) }
        let bytes = try XCTUnwrap(CVPixelBufferGetBaseAddress(made))
        for y in 0..<height {
            for x in 0..<width {
                let (row, column) = isTurned ? (width - 1 - x, y) : (y, x)
                let place = row * CVPixelBufferGetBytesPerRow(made) + 4 * column
                for (channel, from) in [2, 1, 0, 3].enumerated() {
                    bytes.storeBytes(of: rgba[4 * (y * width + x) + from], toByteOffset: place + channel, as: UInt8.self)
                }
            }
        }
        return made
    }
}
