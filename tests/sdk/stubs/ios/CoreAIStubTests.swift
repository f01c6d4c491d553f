// What only stubbed runtimes can show: which of Apple's two runs the model, and what becomes of one that refuses.

import CoreGraphics
import Foundation
import StubRuntime
import XCTest

@testable import __module__

final class CoreAIStubTests: XCTestCase {
    private static let refusal = NSError(
        domain: "CoreAI", code: 1, userInfo: [NSLocalizedDescriptionKey: "the asset is of another version"]
    )

    override func tearDown() {
        (StubRuntime.coreAIError, StubRuntime.isInterleaved, StubRuntime.unitsThatDoNotLoad) = (nil, false, [])
    }

    private func classified(_ classifier: Classifier) async throws -> [Classification] {
        StubRuntime.lastRuntime = nil
        return try await classifier.classify(CGImage.make(from: Data(repeating: 7, count: 4), width: 1, height: 1))
    }

    func testTheSystemDecidesWhichRuntimeItIs() async throws {
        let classifier = try await Classifier()
        XCTAssertEqual(classifier.runtime, StubRuntime.hasCoreAI ? .coreAI : .coreML)
        XCTAssertNil(classifier.runtimeRefusal)
        _ = try await classified(classifier)
        XCTAssertEqual(StubRuntime.lastRuntime, StubRuntime.hasCoreAI ? "Core AI" : "Core ML")
    }

    func testCoreMLTakesOverWhereCoreAIDoesNotLoad() async throws {
        StubRuntime.coreAIError = Self.refusal
        let classifier = try await Classifier()
        XCTAssertEqual(classifier.runtime, .coreML)
        _ = try await classified(classifier)
        XCTAssertEqual(StubRuntime.lastRuntime, "Core ML")
        guard StubRuntime.hasCoreAI else {
            return XCTAssertNil(classifier.runtimeRefusal)
        }
        let reason = try XCTUnwrap(classifier.runtimeRefusal)
        XCTAssertTrue(reason.contains("the asset is of another version"), reason)
    }

    func testThatCanBeForbidden() async throws {
        StubRuntime.coreAIError = Self.refusal
        do {
            let classifier = try await Classifier(allowsFallback: false)
            XCTAssertFalse(StubRuntime.hasCoreAI, "\(classifier.runtime) took over")
        } catch ClassifierError.modelUnusable(let reason) {
            XCTAssertTrue(reason.contains("the asset is of another version"), reason)
        }
    }

    func testUnitsThatRefuseAreNoReasonForTheOtherRuntime() async throws {
        StubRuntime.unitsThatDoNotLoad = [3]
        let classifier = try await Classifier()
        XCTAssertEqual(classifier.runtime, StubRuntime.hasCoreAI ? .coreAI : .coreML)
        XCTAssertEqual(classifier.computeUnits, .cpu)
        XCTAssertNotNil(classifier.fallback)
    }

    func testOutputsThatCannotBeReadAreAnError() async throws {
        StubRuntime.isInterleaved = true
        let classifier = try await Classifier()
        do {
            _ = try await classified(classifier)
            XCTAssertFalse(StubRuntime.hasCoreAI)
        } catch ClassifierError.predictionFailed(let reason) {
            XCTAssertTrue(reason.contains("'logits' is no plain array"), reason)
        }
    }
}
