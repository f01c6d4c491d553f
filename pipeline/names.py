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
ClassifierError Combine ComputeUnits ComputeUnitsRefusal CoreFoundation CoreGraphics CoreImage CoreML CoreTransferable
CoreVideo CryptoKit Darwin DecodedPhoto Detection Detector DetectorError Dispatch ExecuTorch Feature FeatureExtractor
FeatureExtractorError FeatureName Features Foundation Glibc ImageIO Mask ObjectiveC Observation PackageDescription
PhotoSource Photos PhotosUI Sample Segmenter SegmenterError Swift SwiftUI Testing UIKit UniformTypeIdentifiers XCTest
YUVMatrix executorch
"""

_DEVICES = ("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)))

WINDOWS_DEVICES = frozenset(_DEVICES)
"""Names that no file or folder on Windows can have, with any suffix and in any case."""

JAVA_WORDS = frozenset(_JAVA.split())
"""Java's keywords and literals: Android's build tools refuse them in a namespace."""

PLATFORM_PACKAGES = frozenset(("android", "androidx", "java", "javax", "kotlin", "kotlinx"))
"""First parts of packages that are not an app's."""

SWIFT_WORDS = frozenset((_SWIFT + _USED_IN_SWIFT).split())
"""Swift's keywords, and the modules and types that a kit uses: no name for its module."""
