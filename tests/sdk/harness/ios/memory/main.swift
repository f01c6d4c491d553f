// Decodes a photo of a size and tells by how much the process has grown at most: memory WIDTH HEIGHT

import Foundation
import ImageIO

/// Most memory since the process began, or since the last `forget`, in bytes.
func most() -> Int {
    let status = try! String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }!
    return 1024 * Int(line.split(separator: " ").dropLast().last!.trimmingCharacters(in: .whitespaces))!
}

func forget() {
    try! "5".write(toFile: "/proc/self/clear_refs", atomically: false, encoding: .utf8)
}

let (width, height) = (Int(CommandLine.arguments[1])!, Int(CommandLine.arguments[2])!)
func show(_ photo: PhotoSource) throws -> Seen {
    var input = [UInt8](repeating: 0, count: 4 * ModelInfo.width * ModelInfo.height)
    return try input.withUnsafeMutableBytes { bytes in
        try photo.show(
            in: PixelTarget(
                bytes: bytes, width: ModelInfo.width, height: ModelInfo.height, bytesPerRow: 4 * ModelInfo.width,
                order: .rgba
            )
        )
    }
}
_ = try show(.data(StubImages.file(64, 48, 6)))
forget()
let before = most()
let seen = try show(.data(StubImages.file(width, height, 6)))
print("photo \(width) \(height) \(seen.width) \(seen.height) \(most() - before)")
