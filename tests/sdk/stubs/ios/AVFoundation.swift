// AVFoundation, the part of its capture that the sample uses; there is no camera.
// Written after Apple's public documentation of AVFoundation, as of the iOS 18 SDK (Xcode 16); not compared with the SDK itself.

@_exported import CoreMedia
@_exported import Foundation
@_exported import QuartzCore

public struct AVMediaType: RawRepresentable, Hashable, Sendable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    public static let video = AVMediaType(rawValue: "vide")
}

open class AVCaptureDevice: NSObject {
    public struct DeviceType: RawRepresentable, Hashable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }
        public static let builtInWideAngleCamera = DeviceType(rawValue: "AVCaptureDeviceTypeBuiltInWideAngleCamera")
    }

    public enum Position: Int, @unchecked Sendable {
        case unspecified = 0
        case back, front
    }

    open class func `default`(
        _ deviceType: DeviceType, for mediaType: AVMediaType?, position: Position
    ) -> AVCaptureDevice? { nil }

    open class func requestAccess(for mediaType: AVMediaType) async -> Bool { false }

    @available(iOS 17, *)
    open class RotationCoordinator: NSObject {
        public init(device: AVCaptureDevice, previewLayer: CALayer?) {}
        open var videoRotationAngleForHorizonLevelCapture: CGFloat { 90 }
    }
}

open class AVCaptureInput: NSObject {}

open class AVCaptureDeviceInput: AVCaptureInput {
    public init(device: AVCaptureDevice) throws {}
}

open class AVCaptureOutput: NSObject {}

open class AVCaptureConnection: NSObject {}

public protocol AVCaptureVideoDataOutputSampleBufferDelegate: NSObjectProtocol {
    func captureOutput(
        _ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection
    )
}

open class AVCaptureVideoDataOutput: AVCaptureOutput {
    open var videoSettings: [String: Any]! = [:]
    open var alwaysDiscardsLateVideoFrames = true

    open func setSampleBufferDelegate(
        _ sampleBufferDelegate: (any AVCaptureVideoDataOutputSampleBufferDelegate)?,
        queue sampleBufferCallbackQueue: DispatchQueue?
    ) {}
}

open class AVCaptureSession: NSObject, @unchecked Sendable {
    open var automaticallyConfiguresCaptureDeviceForWideColor = true
    open func canAddInput(_ input: AVCaptureInput) -> Bool { true }
    open func canAddOutput(_ output: AVCaptureOutput) -> Bool { true }
    open func addInput(_ input: AVCaptureInput) {}
    open func addOutput(_ output: AVCaptureOutput) {}
    open func beginConfiguration() {}
    open func commitConfiguration() {}
    open func startRunning() {}
    open func stopRunning() {}
}

open class AVCaptureVideoPreviewLayer: CALayer {
    open var session: AVCaptureSession?
}
