// UIKit, the part that the kit uses.
// Written after Apple's public documentation of UIKit, as of the iOS 18 SDK (Xcode 16); not compared with the SDK itself.

@_exported import CoreGraphics
@_exported import Foundation
@_exported import QuartzCore

open class UIImage: NSObject, @unchecked Sendable {
    public enum Orientation: Int, Sendable {
        case up = 0
        case down, left, right, upMirrored, downMirrored, leftMirrored, rightMirrored
    }

    public let cgImage: CGImage?
    public let imageOrientation: Orientation

    public init(cgImage: CGImage, scale: CGFloat, orientation: Orientation) {
        self.cgImage = cgImage
        imageOrientation = orientation
    }
}

@MainActor
open class UIView: NSObject {
    open class var layerClass: AnyClass { CALayer.self }
    open private(set) lazy var layer = CALayer()

    public nonisolated override init() {}
}
