// XCTest's attachments, which the XCTest of Linux does not have; an attached file is copied into the working folder.
// Written after Apple's public documentation of XCTest, as of the iOS 18 SDK (Xcode 16); not compared with the SDK itself.

import Foundation
import XCTest

open class XCTAttachment: NSObject {
    public enum Lifetime: Int, Sendable {
        case keepAlways = 0
        case deleteOnSuccess
    }

    open var name: String?
    open var lifetime = Lifetime.deleteOnSuccess
    let file: URL

    init(contentsOfFile url: URL) {
        file = url
    }
}

extension XCTestCase {
    func add(_ attachment: XCTAttachment) {
        let target = URL(fileURLWithPath: FileManager.default.currentDirectoryPath).appendingPathComponent("__module__-\(attachment.name!)")
        try? FileManager.default.removeItem(at: target)
        try! FileManager.default.copyItem(at: attachment.file, to: target)
    }
}
