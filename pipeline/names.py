"""Names that generated code cannot bear."""

_JAVA = """
abstract assert boolean break byte case catch char class const continue default do double else enum extends false final
finally float for goto if implements import instanceof int interface long native new null package private protected
public return short static strictfp super switch synchronized this throw throws transient true try void volatile while
"""
_SWIFT = """
Any Protocol Self Type actor as associatedtype async await borrowing break case catch class consuming continue default
defer deinit do else enum extension fallthrough false fileprivate for func guard if import in init inout internal is let
macro nil nonisolated open operator precedencegroup private protocol public repeat rethrows return self some static
struct subscript super switch throw throws true try typealias var where while
"""
_USED_IN_SWIFT = """
AVFoundation Accelerate AppleProductTypes Box CameraFrame Category ClassShare Classification Classifier
ClassifierError Combine ComputeUnits ComputeUnitsRefusal CoreFoundation CoreGraphics CoreImage CoreMedia CoreML CoreTransferable
CoreVideo CryptoKit Darwin DecodedPhoto Detection Detector DetectorError Dispatch ExecuTorch Feature FeatureExtractor
FeatureExtractorError FeatureName Features Foundation Glibc ImageIO Mask ObjectiveC Observation PackageDescription
ModelRuntime PhotoSource Photos PhotosUI QuartzCore Sample Segmenter SegmenterError Swift SwiftUI Testing UIKit UniformTypeIdentifiers XCTest
YUVMatrix executorch
"""

_OF_APPLE = """
ARKit AppIntents AppKit Builtin CarPlay Charts CloudKit Contacts CoreAI CoreAIDelegates CoreAIRuntime CoreAudio CoreBluetooth CoreData CoreHaptics CoreLocation CoreMIDI
CoreMotion CoreNFC CoreSpotlight CoreTelephony CoreText Cxx CreateML DeviceCheck Distributed FoundationModels GameKit GameplayKit GLKit
HealthKit HomeKit IOKit IOSurface Intents LocalAuthentication MapKit MediaPlayer Messages Metal MetalKit MetalPerformanceShaders MultipeerConnectivity
NaturalLanguage NearbyInteraction Network OSLog PDFKit PassKit PencilKit QuickLook RealityKit RegexBuilder SafariServices SceneKit Security
SensitiveContentAnalysis SoundAnalysis Speech SpriteKit StoreKit SwiftData Synchronization System TipKit Translation UserNotifications
VideoToolbox Vision VisionKit WatchKit WeatherKit WebKit WidgetKit main os
"""
"""An app that uses both could import neither; `main` is what Swift calls a program's own."""

_DEVICES = ("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)))

WINDOWS_DEVICES = frozenset(_DEVICES)
"""Names that no file or folder on Windows can have, with any suffix and in any case."""

JAVA_WORDS = frozenset(_JAVA.split())
"""Java's keywords and literals: Android's build tools refuse them in a namespace."""

PLATFORM_PACKAGES = frozenset(("android", "androidx", "java", "javax", "kotlin", "kotlinx"))
"""First parts of packages that are not an app's."""

SWIFT_WORDS = frozenset((_SWIFT + _USED_IN_SWIFT + _OF_APPLE).split())
"""Swift's keywords, the modules and types that a kit uses, and the frameworks of Apple's that an app may: no name for its module."""
