// Makes the frames of `camera_frames.py`.

import Foundation

private func noise(_ count: Int, seed: UInt32) -> [UInt8] {
    (0..<count).map { k in
        var h = UInt32(truncatingIfNeeded: k) &* 0x9E37_79B1 &+ seed &* 0x85EB_CA77
        h = (h ^ (h >> 15)) &* 0x2C1B_3C6D
        h = (h ^ (h >> 12)) &* 0x297A_2D39
        return UInt8(truncatingIfNeeded: h ^ (h >> 15))
    }
}

/// Writes what Frame.swift and Pixels.swift turn each into.
func makeFrames(_ list: String, _ out: String) throws {
    let cases = try String(contentsOfFile: list, encoding: .utf8)
    var output = Data()
    for line in cases.split(separator: "\n") {
        let numbers = line.split(separator: " ").map { Int($0)! }
        let frame = noise(numbers[0], seed: UInt32(numbers[1]))
        let (top, left, height, width) = (numbers[5], numbers[6], numbers[7], numbers[8])
        let (inputHeight, inputWidth) = (numbers[9], numbers[10])
        var fitted = [UInt8](repeating: 0, count: 4 * inputHeight * inputWidth)
        try frame.withUnsafeBytes { bytes in
            let planes = stride(from: 12, to: numbers.count, by: 4).map { place in
                let part = UnsafeRawBufferPointer(rebasing: bytes[numbers[place]..<numbers[place] + numbers[place + 1]])
                return Samples(bytes: part, bytesPerRow: numbers[place + 2], bytesPerSample: numbers[place + 3])
            }
            let source: any RowSource
            if planes.count == 1 {
                source = PackedRows(samples: planes[0], order: .rgba, width: width, height: height, left: left, top: top)
            } else {
                let terms = YUVTerms(numbers[3] == 1 ? .bt709 : .bt601, isFullRange: numbers[4] == 1)
                source = YUVRows(
                    luma: planes[0], blue: planes[1], red: planes[2], terms: terms, width: width, height: height, left: left,
                    top: top
                )
            }
            try fitted.withUnsafeMutableBytes { target in
                try Pixels.fit(
                    source, orientation: Orientation(rawValue: UInt32(numbers[2]))!,
                    as: numbers[11] == 1 ? .letterbox : .crop,
                    into: PixelTarget(
                        bytes: target, width: inputWidth, height: inputHeight, bytesPerRow: 4 * inputWidth, order: .rgba
                    )
                )
            }
        }
        output.append(contentsOf: fitted)
    }
    try output.write(to: URL(fileURLWithPath: out))
}
