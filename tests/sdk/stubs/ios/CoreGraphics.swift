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

public enum CGColorSpaceModel: Int32, Sendable {
    case unknown = -1
    case monochrome = 0
    case rgb, cmyk, lab, deviceN, indexed, pattern, XYZ
}

public final class CGColorSpace: @unchecked Sendable {
    public nonisolated(unsafe) static let sRGB: CFString = "kCGColorSpaceSRGB"
    public nonisolated(unsafe) static let displayP3: CFString = "kCGColorSpaceDisplayP3"
    public nonisolated(unsafe) static let genericGrayGamma2_2: CFString = "kCGColorSpaceGenericGrayGamma2_2"

    public let name: CFString?
    public var model: CGColorSpaceModel { name == CGColorSpace.genericGrayGamma2_2 ? .monochrome : .rgb }

    public init?(name: CFString) {
        self.name = name
    }

    /// Of the stub: a byte of red, green and blue as this space has them, in sRGB; relative colorimetric, cut off.
    func inSRGB(_ pixel: [UInt8]) -> [UInt8] {
        guard name != CGColorSpace.sRGB else {
            return pixel
        }
        // Core Graphics shifts what it takes for another gamma; and device colours, as a Mac's display may have them
        guard name == CGColorSpace.displayP3 else {
            return pixel.map { $0 ^ 0x10 }
        }
        let linear = pixel.map { byte in
            let value = Double(byte) / 255
            return value <= 0.04045 ? value / 12.92 : pow((value + 0.055) / 1.055, 2.4)
        }
        let rows = [[1.2249401763, -0.2249401763, 0], [-0.0420569547, 1.0420569547, 0], [-0.0196375546, -0.0786360456, 1.0982736001]]
        return rows.map { row in
            let value = min(max(zip(row, linear).map(*).reduce(0, +), 0), 1)
            let encoded = value <= 0.0031308 ? 12.92 * value : 1.055 * pow(value, 1 / 2.4) - 0.055
            return UInt8((255 * encoded).rounded())
        }
    }
}

public func CGColorSpaceCreateDeviceRGB() -> CGColorSpace { CGColorSpace(name: "kCGColorSpaceDeviceRGB")! }

public final class CGImage: @unchecked Sendable {
    public let width: Int
    public let height: Int
    public let colorSpace: CGColorSpace?
    /// Premultiplied RGBA, row after row; of greys too.
    let pixels: [UInt8]

    /// Of the stub.
    public init(width: Int, height: Int, pixels: [UInt8], space: CGColorSpace?) {
        self.width = width
        self.height = height
        self.pixels = pixels
        colorSpace = space
    }

    public func copy(colorSpace: CGColorSpace) -> CGImage? {
        CGImage(width: width, height: height, pixels: pixels, space: colorSpace)
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
        return CGImage(width: right - left, height: bottom - top, pixels: cropped, space: colorSpace)
    }
}

public final class CGContext {
    public let width: Int
    public let height: Int
    public let bytesPerRow: Int
    public let data: UnsafeMutableRawPointer?
    public var interpolationQuality = CGInterpolationQuality.default
    private let isOpaque: Bool
    private let space: CGColorSpace
    private var samples: Int { space.model == .monochrome ? 1 : 4 }

    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
        space: CGColorSpace, bitmapInfo: UInt32
    ) {
        let isGrey = space.model == .monochrome
        guard bitsPerComponent == 8, data == nil, isGrey == (bitmapInfo == CGImageAlphaInfo.none.rawValue) else {
            return nil
        }
        self.space = space
        self.width = width
        self.height = height
        self.bytesPerRow = bytesPerRow > 0 ? bytesPerRow : ((isGrey ? 1 : 4) * width + 63) / 64 * 64
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
            for x in 0..<width {
                let place = 4 * (y * width + x)
                var pixel = Array(image.pixels[place..<place + 4])
                if let stored = image.colorSpace, stored.name != space.name {
                    pixel = stored.inSRGB(Array(pixel[..<3])) + [pixel[3]]
                }
                for sample in 0..<samples {
                    data!.storeBytes(of: pixel[sample], toByteOffset: y * bytesPerRow + samples * x + sample, as: UInt8.self)
                }
            }
        }
    }

    public func makeImage() -> CGImage? {
        var pixels = [UInt8]()
        for y in 0..<height {
            for x in 0..<4 * width {
                let place = samples == 4 ? x : x / 4
                let byte = data!.load(fromByteOffset: y * bytesPerRow + place, as: UInt8.self)
                pixels.append((isOpaque || samples == 1) && x % 4 == 3 ? 255 : byte)
            }
        }
        return CGImage(width: width, height: height, pixels: pixels, space: space)
    }
}
