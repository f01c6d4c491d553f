// Makes the images of `resizing.py` and writes what Pixels.swift turns each into: harness CASES OUT FRAMES OUT

import Foundation

func makeImage(width: Int, height: Int, seed: UInt32) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: 4 * width * height) { bytes, count in
        for k in 0..<4 * width * height {
            var h = UInt32(truncatingIfNeeded: k) &* 0x9E37_79B1 &+ seed &* 0x85EB_CA77
            h = (h ^ (h >> 15)) &* 0x2C1B_3C6D
            h = (h ^ (h >> 12)) &* 0x297A_2D39
            bytes[k] = seed % 2 == 1 && k % 4 == 3 ? 255 : UInt8(truncatingIfNeeded: h ^ (h >> 15))
        }
        count = 4 * width * height
    }
}

let cases = try String(contentsOfFile: CommandLine.arguments[1], encoding: .utf8)
var output = Data()
var slowest: (name: String, elapsed: Duration) = ("", .zero)
for line in cases.split(separator: "\n") {
    let numbers = line.split(separator: " ").map { Int($0)! }
    let (width, height, inputHeight, inputWidth) = (numbers[0], numbers[1], numbers[3], numbers[4])
    let orientation = Orientation(rawValue: UInt32(numbers[2]))!
    let fit = numbers[6] == 1 ? Fit.letterbox : Fit.crop
    let image = makeImage(width: width, height: height, seed: UInt32(numbers[5]))
    var fitted = [UInt8](repeating: 0, count: 4 * inputHeight * inputWidth)
    let elapsed = try ContinuousClock().measure {
        try image.withUnsafeBytes { source in
            try fitted.withUnsafeMutableBytes { target in
                try Pixels.fit(
                    PixelRows(bytes: source, width: width, height: height, bytesPerRow: 4 * width, alpha: .straight),
                    orientation: orientation,
                    as: fit,
                    into: PixelTarget(
                        bytes: target, width: inputWidth, height: inputHeight, bytesPerRow: 4 * inputWidth, order: .rgba
                    )
                )
            }
        }
    }
    if elapsed > slowest.elapsed {
        slowest = (String(line), elapsed)
    }
    output.append(contentsOf: fitted)
    let placed = Placed(
        width: width, height: height, orientation: orientation, fit: fit, inputWidth: inputWidth, inputHeight: inputHeight
    )
    let there = placed.toPhoto([1.0 / 3, -0.7, Double(inputWidth) - 0.1, Double(inputHeight) / 7])
    for value in there + placed.toInput(there) {
        withUnsafeBytes(of: value.bitPattern.littleEndian) { output.append(contentsOf: $0) }
    }
}
try output.write(to: URL(fileURLWithPath: CommandLine.arguments[2]))
print("slowest: \(slowest.name), \(slowest.elapsed)")
try makeFrames(CommandLine.arguments[3], CommandLine.arguments[4])
