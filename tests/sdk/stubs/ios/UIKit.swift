// UIKit, the part that the kit uses.
// Source: Apple's documentation of UIKit and the Swift interface of the iOS 18 SDK (Xcode 16).

@_exported import CoreGraphics
@_exported import Foundation

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
