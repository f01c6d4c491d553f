// ImageIO, the part that the kit uses. A file is "IMG0", its width, height and orientation as little-endian UInt32, and RGBA
// bytes; where there are none, its pixels are generated.
// Written after Apple's public documentation of Image I/O, as of the iOS 18 SDK (Xcode 16); not compared with the SDK itself.

@_exported import CoreGraphics
import Foundation

public enum CGImagePropertyOrientation: UInt32, Sendable {
    case up = 1
    case upMirrored, down, downMirrored, leftMirrored, right, rightMirrored, left
}

public final class CGImageSource {
    let data: Data
    var width: Int { number(4) }
    var height: Int { number(8) }
    var orientation: Int { number(12) }

    init?(_ data: Data) {
        guard data.count >= 16, data.prefix(4).elementsEqual("IMG0".utf8) else {
            return nil
        }
        self.data = data
    }

    private func number(_ place: Int) -> Int {
        Int(data.withUnsafeBytes { UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: place, as: UInt32.self)) })
    }

    /// Every `factor`th pixel.
    func decoded(every factor: Int) -> CGImage {
        let (columns, rows) = ((width + factor - 1) / factor, (height + factor - 1) / factor)
        StubImages.largest = max(StubImages.largest, columns * rows)
        var pixels = [UInt8](repeating: 255, count: 4 * columns * rows)
        if data.count > 16 {
            for y in 0..<rows {
                for x in 0..<columns {
                    let place = 16 + 4 * (y * factor * width + x * factor)
                    pixels.replaceSubrange(4 * (y * columns + x)..<4 * (y * columns + x) + 4, with: data[place..<place + 4])
                }
            }
        }
        return CGImage(width: columns, height: rows, pixels: pixels, space: CGColorSpace(name: CGColorSpace.sRGB))
    }
}

/// Of the stub.
public enum StubImages {
    /// The most pixels that were decoded at once.
    public nonisolated(unsafe) static var largest = 0

    /// A file as it is read here.
    public static func file(_ width: Int, _ height: Int, _ orientation: UInt32, _ rgba: Data = Data()) -> Data {
        var data = Data("IMG0".utf8)
        for number in [UInt32(width), UInt32(height), orientation] {
            withUnsafeBytes(of: number.littleEndian) { data.append(contentsOf: $0) }
        }
        return data + rgba
    }
}

public nonisolated(unsafe) let kCGImagePropertyOrientation: CFString = "Orientation"
public nonisolated(unsafe) let kCGImagePropertyPixelWidth: CFString = "PixelWidth"
public nonisolated(unsafe) let kCGImagePropertyPixelHeight: CFString = "PixelHeight"
public nonisolated(unsafe) let kCGImageSourceShouldCacheImmediately: CFString = "kCGImageSourceShouldCacheImmediately"
public nonisolated(unsafe) let kCGImageSourceCreateThumbnailFromImageAlways: CFString =
    "kCGImageSourceCreateThumbnailFromImageAlways"
public nonisolated(unsafe) let kCGImageSourceCreateThumbnailWithTransform: CFString =
    "kCGImageSourceCreateThumbnailWithTransform"
public nonisolated(unsafe) let kCGImageSourceThumbnailMaxPixelSize: CFString = "kCGImageSourceThumbnailMaxPixelSize"

public func CGImageSourceCreateWithData(_ data: CFData, _ options: CFDictionary?) -> CGImageSource? {
    CGImageSource(data)
}

public func CGImageSourceCreateImageAtIndex(
    _ isrc: CGImageSource, _ index: Int, _ options: CFDictionary?
) -> CGImage? {
    isrc.decoded(every: 1)
}

public func CGImageSourceCreateThumbnailAtIndex(
    _ isrc: CGImageSource, _ index: Int, _ options: CFDictionary?
) -> CGImage? {
    // the real one turns where it is asked to, and gives a thumbnail that lies in the file where it is not told otherwise
    guard
        let options, let side = options[kCGImageSourceThumbnailMaxPixelSize] as? Int,
        options[kCGImageSourceCreateThumbnailWithTransform] as? Bool == false,
        options[kCGImageSourceCreateThumbnailFromImageAlways] as? Bool == true
    else {
        return nil
    }
    let longest = max(isrc.width, isrc.height)
    return isrc.decoded(every: (longest + side - 1) / side)
}

public func CGImageSourceCopyPropertiesAtIndex(
    _ isrc: CGImageSource, _ index: Int, _ options: CFDictionary?
) -> CFDictionary? {
    [
        kCGImagePropertyPixelWidth: isrc.width, kCGImagePropertyPixelHeight: isrc.height,
        kCGImagePropertyOrientation: UInt32(isrc.orientation),
    ]
}
