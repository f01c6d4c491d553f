/// How a frame's luma and chroma were made of red, green and blue.
public enum YUVMatrix: Sendable, CaseIterable {
    /// What JPEG has, and ARKit's frames; taken where a frame does not say.
    case bt601
    case bt709
}

/// The terms of the conversion times 65536.
struct YUVTerms: Sendable {
    let black: Int
    let gain: Int
    let redV: Int
    let greenU: Int
    let greenV: Int
    let blueU: Int

    private init(_ black: Int, _ gain: Int, _ redV: Int, _ greenU: Int, _ greenV: Int, _ blueU: Int) {
        (self.black, self.gain, self.redV) = (black, gain, redV)
        (self.greenU, self.greenV, self.blueU) = (greenU, greenV, blueU)
    }

    /// - Parameter isFullRange: luma of 0 to 255, not of 16 to 235 and chroma of 16 to 240.
    init(_ matrix: YUVMatrix, isFullRange: Bool) {
        switch (matrix, isFullRange) {
        case (.bt601, true): self.init(0, 65536, 91881, 22553, 46802, 116130)
        case (.bt601, false): self.init(16, 76309, 104597, 25675, 53279, 132201)
        case (.bt709, true): self.init(0, 65536, 103206, 12276, 30679, 121609)
        case (.bt709, false): self.init(16, 76309, 117489, 13975, 34925, 138438)
        }
    }
}

/// Samples in memory: that of column `x` and row `y` is the byte `y * bytesPerRow + x * bytesPerSample`.
struct Samples {
    let bytes: UnsafeRawBufferPointer
    let bytesPerRow: Int
    let bytesPerSample: Int

    /// Whether so many are there; what lies behind the last need not be.
    func holds(columns: Int, rows: Int) -> Bool {
        (rows - 1) * bytesPerRow + (columns - 1) * bytesPerSample < bytes.count
    }
}

/// A frame in 4:2:0 and 8 bits, planar or with both chromas in turns, or a window of one.
///
/// The pixel in column `x` and row `y` has the chroma of column `x / 2` and row `y / 2`, the sample that covers it. It becomes
///
///     luma  = gain * (Y - black)
///     red   = (luma + redV * (V - 128) + 32768) >> 16
///     green = (luma - greenU * (U - 128) - greenV * (V - 128) + 32768) >> 16
///     blue  = (luma + blueU * (U - 128) + 32768) >> 16
///
/// and what is below 0 or above 255 becomes 0 or 255: the same bytes on every platform.
struct YUVRows: RowSource {
    let luma: Samples
    /// Of blue, U or Cb.
    let blue: Samples
    /// Of red, V or Cr.
    let red: Samples
    let terms: YUVTerms
    let width: Int
    let height: Int
    /// Where the window begins.
    var left = 0
    var top = 0

    /// Whether all samples are there.
    var isWhole: Bool {
        let (columns, rows) = (left + width, top + height)
        return luma.holds(columns: columns, rows: rows)
            && [blue, red].allSatisfy { $0.holds(columns: (columns + 1) / 2, rows: (rows + 1) / 2) }
    }

    func read(_ y: Int, from left: Int, into line: UnsafeMutableBufferPointer<UInt8>) {
        let (row, column) = (top + y, self.left + left)
        let (bright, u, v) = (
            row * luma.bytesPerRow + column * luma.bytesPerSample, row / 2 * blue.bytesPerRow, row / 2 * red.bytesPerRow
        )
        for x in 0..<line.count / 3 {
            let sample = (column + x) / 2
            let value = Int(luma.bytes[bright + x * luma.bytesPerSample])
            let blueness = Int(blue.bytes[u + sample * blue.bytesPerSample]) - 128
            let redness = Int(red.bytes[v + sample * red.bytesPerSample]) - 128
            let light = terms.gain * (value - terms.black) + 32768
            line[3 * x] = Self.byte(light + terms.redV * redness)
            line[3 * x + 1] = Self.byte(light - terms.greenU * blueness - terms.greenV * redness)
            line[3 * x + 2] = Self.byte(light + terms.blueU * blueness)
        }
    }

    private static func byte(_ sum: Int) -> UInt8 {
        UInt8(max(0, min(255, sum >> 16)))
    }
}

/// A frame of four bytes a pixel, the fourth of which is not looked at, or a window of one.
struct PackedRows: RowSource {
    let samples: Samples
    let order: PixelTarget.Order
    let width: Int
    let height: Int
    /// Where the window begins.
    var left = 0
    var top = 0

    func read(_ y: Int, from left: Int, into line: UnsafeMutableBufferPointer<UInt8>) {
        let (red, blue) = order == .rgba ? (0, 2) : (2, 0)
        var offset = (top + y) * samples.bytesPerRow + (self.left + left) * samples.bytesPerSample
        for x in stride(from: 0, to: line.count, by: 3) {
            line[x] = samples.bytes[offset + red]
            line[x + 1] = samples.bytes[offset + 1]
            line[x + 2] = samples.bytes[offset + blue]
            offset += samples.bytesPerSample
        }
    }
}
