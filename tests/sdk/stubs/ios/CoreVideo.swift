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
public nonisolated(unsafe) let kCVPixelBufferIOSurfacePropertiesKey: CFString = "IOSurfaceProperties"

public final class CVPixelBuffer {
    public let width: Int
    public let height: Int
    public let bytesPerRow: Int
    public let bytes: UnsafeMutableRawPointer
    var isLocked = false

    init(width: Int, height: Int) {
        self.width = width
        self.height = height
        bytesPerRow = 4 * width + 64
        bytes = .allocate(byteCount: bytesPerRow * height, alignment: 64)
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

public func CVPixelBufferCreate(
    _ allocator: CFAllocator?, _ width: Int, _ height: Int, _ pixelFormatType: OSType,
    _ pixelBufferAttributes: CFDictionary?, _ pixelBufferOut: UnsafeMutablePointer<CVPixelBuffer?>
) -> CVReturn {
    guard pixelFormatType == kCVPixelFormatType_32BGRA else {
        return -6680
    }
    pixelBufferOut.pointee = CVPixelBuffer(width: width, height: height)
    return kCVReturnSuccess
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
    pixelBuffer.isLocked ? pixelBuffer.bytes : nil
}

public func CVPixelBufferGetBytesPerRow(_ pixelBuffer: CVPixelBuffer) -> Int { pixelBuffer.bytesPerRow }
