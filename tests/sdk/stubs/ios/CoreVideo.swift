// CoreVideo, the part that the kit uses, with bodies for buffers in memory.
// Written after Apple's public documentation of Core Video, as of the iOS 18 SDK (Xcode 16); not compared with the SDK itself.

@_exported import CoreGraphics
import Foundation

public typealias CVReturn = Int32
public typealias OSType = UInt32

public final class CFAllocator {}
public nonisolated(unsafe) let kCFAllocatorDefault: CFAllocator? = nil

public let kCVReturnSuccess: CVReturn = 0
public let kCVPixelFormatType_32BGRA: OSType = 0x4247_5241
public let kCVPixelFormatType_420YpCbCr8Planar: OSType = 0x7934_3230
public let kCVPixelFormatType_420YpCbCr8PlanarFullRange: OSType = 0x6634_3230
public let kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange: OSType = 0x3432_3076
public let kCVPixelFormatType_420YpCbCr8BiPlanarFullRange: OSType = 0x3432_3066
public let kCVPixelFormatType_OneComponent8: OSType = 0x4C30_3038
public nonisolated(unsafe) let kCVPixelBufferIOSurfacePropertiesKey: CFString = "IOSurfaceProperties"
public nonisolated(unsafe) let kCVPixelBufferPixelFormatTypeKey: CFString = "PixelFormatType"
public nonisolated(unsafe) let kCVImageBufferYCbCrMatrixKey: CFString = "CVImageBufferYCbCrMatrix"
public nonisolated(unsafe) let kCVImageBufferYCbCrMatrix_ITU_R_601_4: CFString = "ITU_R_601_4"
public nonisolated(unsafe) let kCVImageBufferYCbCrMatrix_ITU_R_709_2: CFString = "ITU_R_709_2"
public nonisolated(unsafe) let kCVImageBufferYCbCrMatrix_ITU_R_2020: CFString = "ITU_R_2020"

public class CVBuffer {
    var attachments: [NSString: AnyObject] = [:]
}

public typealias CVImageBuffer = CVBuffer

public final class CVPixelBuffer: CVBuffer {
    /// Rows lie further apart than they are long; planes follow each other.
    struct Plane {
        let height: Int
        let bytesPerRow: Int
        let start: Int
    }

    public let width: Int
    public let height: Int
    public let bytesPerRow: Int
    public let bytes: UnsafeMutableRawPointer
    let format: OSType
    /// None of a format that is not planar.
    let planes: [Plane]
    var isLocked = false

    init?(width: Int, height: Int, format: OSType) {
        let (half, halfHeight) = ((width + 1) / 2, (height + 1) / 2)
        let sizes: [(Int, Int)]
        switch format {
        case kCVPixelFormatType_32BGRA: sizes = [(4 * width, height)]
        case kCVPixelFormatType_OneComponent8: sizes = [(width, height)]
        case kCVPixelFormatType_420YpCbCr8BiPlanarFullRange, kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange:
            sizes = [(width, height), (2 * half, halfHeight)]
        case kCVPixelFormatType_420YpCbCr8PlanarFullRange, kCVPixelFormatType_420YpCbCr8Planar:
            sizes = [(width, height), (half, halfHeight), (half, halfHeight)]
        default: return nil
        }
        var (planes, start) = ([Plane](), 0)
        for (columns, rows) in sizes {
            planes.append(Plane(height: rows, bytesPerRow: columns + 64, start: start))
            start += (columns + 64) * rows
        }
        self.width = width
        self.height = height
        self.format = format
        bytesPerRow = planes[0].bytesPerRow
        self.planes = planes.count > 1 ? planes : []
        bytes = .allocate(byteCount: start, alignment: 64)
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: start)
    }

    deinit {
        bytes.deallocate()
    }
}

public struct CVPixelBufferLockFlags: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let readOnly = CVPixelBufferLockFlags(rawValue: 1)
}

public enum CVAttachmentMode: UInt32, Sendable {
    case shouldNotPropagate = 0
    case shouldPropagate
}

public func CVPixelBufferCreate(
    _ allocator: CFAllocator?, _ width: Int, _ height: Int, _ pixelFormatType: OSType,
    _ pixelBufferAttributes: CFDictionary?, _ pixelBufferOut: UnsafeMutablePointer<CVPixelBuffer?>
) -> CVReturn {
    pixelBufferOut.pointee = CVPixelBuffer(width: width, height: height, format: pixelFormatType)
    return pixelBufferOut.pointee == nil ? -6680 : kCVReturnSuccess
}

@discardableResult
public func CVPixelBufferLockBaseAddress(
    _ pixelBuffer: CVPixelBuffer, _ lockFlags: CVPixelBufferLockFlags
) -> CVReturn {
    pixelBuffer.isLocked = true
    return kCVReturnSuccess
}

@discardableResult
public func CVPixelBufferUnlockBaseAddress(
    _ pixelBuffer: CVPixelBuffer, _ unlockFlags: CVPixelBufferLockFlags
) -> CVReturn {
    pixelBuffer.isLocked = false
    return kCVReturnSuccess
}

public func CVPixelBufferGetBaseAddress(_ pixelBuffer: CVPixelBuffer) -> UnsafeMutableRawPointer? {
    pixelBuffer.isLocked && pixelBuffer.planes.isEmpty ? pixelBuffer.bytes : nil
}

public func CVPixelBufferGetBytesPerRow(_ pixelBuffer: CVPixelBuffer) -> Int { pixelBuffer.bytesPerRow }

public func CVPixelBufferGetWidth(_ pixelBuffer: CVPixelBuffer) -> Int { pixelBuffer.width }

public func CVPixelBufferGetHeight(_ pixelBuffer: CVPixelBuffer) -> Int { pixelBuffer.height }

public func CVPixelBufferGetPixelFormatType(_ pixelBuffer: CVPixelBuffer) -> OSType { pixelBuffer.format }

public func CVPixelBufferGetPlaneCount(_ pixelBuffer: CVPixelBuffer) -> Int { pixelBuffer.planes.count }

public func CVPixelBufferGetBaseAddressOfPlane(
    _ pixelBuffer: CVPixelBuffer, _ planeIndex: Int
) -> UnsafeMutableRawPointer? {
    guard pixelBuffer.isLocked, pixelBuffer.planes.indices.contains(planeIndex) else {
        return nil
    }
    return pixelBuffer.bytes + pixelBuffer.planes[planeIndex].start
}

public func CVPixelBufferGetBytesPerRowOfPlane(_ pixelBuffer: CVPixelBuffer, _ planeIndex: Int) -> Int {
    pixelBuffer.planes[planeIndex].bytesPerRow
}

public func CVPixelBufferGetHeightOfPlane(_ pixelBuffer: CVPixelBuffer, _ planeIndex: Int) -> Int {
    pixelBuffer.planes[planeIndex].height
}

public func CVBufferSetAttachment(
    _ buffer: CVBuffer, _ key: CFString, _ value: AnyObject, _ attachmentMode: CVAttachmentMode
) {
    buffer.attachments[key] = value
}

public func CVBufferCopyAttachment(
    _ buffer: CVBuffer, _ key: CFString, _ attachmentMode: UnsafeMutablePointer<CVAttachmentMode>?
) -> AnyObject? {
    buffer.attachments[key]
}
