// QuartzCore, the part that the sample uses; nothing is shown.
// Written after Apple's public documentation of Core Animation, as of the iOS 18 SDK (Xcode 16); not compared with the SDK itself.

@_exported import Foundation

open class CALayer: NSObject {}
