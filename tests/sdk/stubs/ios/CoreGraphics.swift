// CoreGraphics, the part that the kit uses, with bodies for images in memory.
// Written after Apple's public documentation of Core Graphics, as of the iOS 18 SDK (Xcode 16); not compared with the SDK itself.
// There is no bridging to Core Foundation on Linux, so its types are Foundation's here.

@_exported import struct Foundation.CGFloat
@_exported import struct Foundation.CGRect
import Foundation

public typealias CFString = NSString
public typealias CFData = Data
public typealias CFDictionary = NSDictionary

public enum CGImageAlphaInfo: UInt32, @unchecked Sendable {
    case none = 0
    case premultipliedLast, premultipliedFirst, last, first, noneSkipLast, noneSkipFirst, alphaOnly
}

public enum CGBlendMode: Int32, @unchecked Sendable {
    case normal = 0
    case multiply = 1
    case copy = 17
}

public enum CGInterpolationQuality: Int32, @unchecked Sendable {
    case `default` = 0
    case none, low, high, medium
}

public final class CGColorSpace: @unchecked Sendable {
    public nonisolated(unsafe) static let sRGB: CFString = "kCGColorSpaceSRGB"
    public nonisolated(unsafe) static let displayP3: CFString = "kCGColorSpaceDisplayP3"

    public init?(name: CFString) {}
}

public final class CGImage: @unchecked Sendable {
    public let width: Int
    public let height: Int
    /// Premultiplied RGBA, row after row.
    let pixels: [UInt8]

    init(width: Int, height: Int, pixels: [UInt8]) {
        self.width = width
        self.height = height
        self.pixels = pixels
    }

    public func cropping(to rect: CGRect) -> CGImage? {
        let (left, top, right, bottom) = (Int(rect.minX), Int(rect.minY), Int(rect.maxX), Int(rect.maxY))
        guard left >= 0, top >= 0, right <= width, bottom <= height else {
            return nil
        }
        var cropped: [UInt8] = []
        for y in top..<bottom {
            let start = 4 * (y * width + left)
            cropped += pixels[start..<start + 4 * (right - left)]
        }
        return CGImage(width: right - left, height: bottom - top, pixels: cropped)
    }
}

public final class CGContext {
    public let width: Int
    public let height: Int
    public let bytesPerRow: Int
    public let data: UnsafeMutableRawPointer?
    public var interpolationQuality = CGInterpolationQuality.default
    private let isOpaque: Bool

    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
        space: CGColorSpace, bitmapInfo: UInt32
    ) {
        guard bitsPerComponent == 8, data == nil else {
            return nil
        }
        self.width = width
        self.height = height
        self.bytesPerRow = bytesPerRow > 0 ? bytesPerRow : (4 * width + 63) / 64 * 64
        isOpaque = bitmapInfo == CGImageAlphaInfo.noneSkipLast.rawValue
        self.data = .allocate(byteCount: self.bytesPerRow * height, alignment: 64)
        self.data?.initializeMemory(as: UInt8.self, repeating: 0, count: self.bytesPerRow * height)
    }

    deinit {
        data?.deallocate()
    }

    public func setBlendMode(_ mode: CGBlendMode) {}

    public func draw(_ image: CGImage, in rect: CGRect) {
        precondition(rect == CGRect(x: 0, y: 0, width: image.width, height: image.height), "the stub does not scale")
        for y in 0..<height {
            for x in 0..<4 * width {
                data!.storeBytes(of: image.pixels[4 * y * width + x], toByteOffset: y * bytesPerRow + x, as: UInt8.self)
            }
        }
    }

    public func makeImage() -> CGImage? {
        var pixels = [UInt8]()
        for y in 0..<height {
            for x in 0..<4 * width {
                let byte = data!.load(fromByteOffset: y * bytesPerRow + x, as: UInt8.self)
                pixels.append(isOpaque && x % 4 == 3 ? 255 : byte)
            }
        }
        return CGImage(width: width, height: height, pixels: pixels)
    }
}
