// CoreMedia, the part that the sample uses.
// Written after Apple's public documentation of Core Media, as of the iOS 18 SDK (Xcode 16); not compared with the SDK itself.

@_exported import CoreVideo

public final class CMSampleBuffer {}

public func CMSampleBufferGetImageBuffer(_ sbuf: CMSampleBuffer) -> CVPixelBuffer? { nil }
