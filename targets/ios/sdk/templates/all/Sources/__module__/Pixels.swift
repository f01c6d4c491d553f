/// How the stored rows and columns of an image lie in the upright one; the raw values are EXIF's.
enum Orientation: UInt32, CaseIterable, Sendable {
    case up = 1
    case upMirrored, down, downMirrored, leftMirrored, right, rightMirrored, left

    /// Stored rows are columns of the upright image.
    var swapsAxes: Bool { rawValue >= 5 }

    /// Stored columns run against the axis of the upright image that they become.
    var reversesColumns: Bool {
        switch self {
        case .upMirrored, .down, .rightMirrored, .left: true
        case .up, .downMirrored, .leftMirrored, .right: false
        }
    }

    /// Stored rows run against the axis of the upright image that they become.
    var reversesRows: Bool {
        switch self {
        case .down, .downMirrored, .right, .rightMirrored: true
        case .up, .upMirrored, .leftMirrored, .left: false
        }
    }
}

/// A view of 8-bit RGBA pixels, row after row, as they are stored.
struct PixelRows {
    enum Alpha {
        /// Colours are to be multiplied by it.
        case straight
        /// Colours are multiplied already, or every pixel is opaque: they are what is seen before black.
        case premultiplied
    }

    let bytes: UnsafeRawBufferPointer
    let width: Int
    let height: Int
    /// At least `4 * width`.
    let bytesPerRow: Int
    let alpha: Alpha
}

/// A place for the model's input: `height` rows of `width` pixels of 4 bytes.
struct PixelTarget {
    enum Order {
        case rgba, bgra
    }

    let bytes: UnsafeMutableRawBufferPointer
    let width: Int
    let height: Int
    /// At least `4 * width`.
    let bytesPerRow: Int
    let order: Order
}

/// A rectangle of stored pixels.
struct Crop: Equatable {
    let left: Int
    let top: Int
    let width: Int
    let height: Int
}

/// From any image to the model's input, in integers: the same bytes on every platform.
///
/// 1. The orientation is applied.
/// 2. A pixel of colour `c` and alpha `a` becomes `round(c * a / 255)`: it lies on black.
/// 3. The largest centred rectangle with the input's aspect ratio is kept: all rows or all columns, and of the others
///    as many as whole numbers allow, at least one. Of an odd rest, the larger half lies right and below of it.
/// 4. It is resized, antialiased bilinear: the output pixel `i` of an axis (`n` in, `m` out) is the mean of the input
///    pixels `j` with the weights `max(0, 2 * max(n, m) - abs((2 * j + 1) * m - (2 * i + 1) * n))`. Both axes are
///    applied exactly and rounded once, half up.
///
/// The weights are symmetric, so the turning comes last here, where an output pixel is put in its place.
enum Pixels {
    /// The rectangle of step 3 in an image of `width` by `height` stored pixels, for an upright input of `inputWidth` by
    /// `inputHeight`.
    static func centeredCrop(
        width: Int, height: Int, orientation: Orientation, inputWidth: Int, inputHeight: Int
    ) -> Crop {
        let (columns, rows) = orientation.swapsAxes ? (inputHeight, inputWidth) : (inputWidth, inputHeight)
        let isTall = height * columns >= width * rows
        let inner = (
            width: isTall ? width : max(1, height * columns / rows),
            height: isTall ? max(1, width * rows / columns) : height
        )
        let (across, down) = (width - inner.width, height - inner.height)
        return Crop(
            left: orientation.reversesColumns ? across - across / 2 : across / 2,
            top: orientation.reversesRows ? down - down / 2 : down / 2,
            width: inner.width,
            height: inner.height
        )
    }

    /// Writes the model's input, with an alpha of 255.
    ///
    /// The rows of `source` are read once and one by one.
    ///
    /// - Throws: ``ClassifierError/imageTooLarge(width:height:)`` where the sums would leave 64 bits; an image of
    ///   10,000 pixels a side fits every input of 16 pixels a side or more.
    static func fit(_ source: PixelRows, orientation: Orientation, into target: PixelTarget) throws {
        let crop = centeredCrop(
            width: source.width, height: source.height, orientation: orientation, inputWidth: target.width,
            inputHeight: target.height
        )
        try resize(source, crop: crop, orientation: orientation, into: target)
    }

    /// `fit` without step 3: a crop of whole pixels, cropped again, can be smaller.
    static func resize(_ source: PixelRows, crop: Crop, orientation: Orientation, into target: PixelTarget) throws {
        let axes = Axes(crop, orientation: orientation, target: target)
        guard axes.areExact else {
            throw ClassifierError.imageTooLarge(width: source.width, height: source.height)
        }
        let down = axes.down
        let width = 3 * axes.across.count
        // the sums of the source rows that an output row needs, in turns
        var rows = [Int](repeating: 0, count: down.longest * width)
        var line = [UInt8](repeating: 0, count: 3 * crop.width)
        var sums = [Int](repeating: 0, count: width)
        var next = 0
        rows.withUnsafeMutableBufferPointer { rows in
            line.withUnsafeMutableBufferPointer { line in
                sums.withUnsafeMutableBufferPointer { sums in
                    for y in 0..<down.count {
                        let window = down.windows[y]
                        while next < window.upperBound {
                            readRow(crop.top + next, from: crop.left, of: source, into: line)
                            let place = next % down.longest * width
                            axes.across.apply(
                                to: line, into: UnsafeMutableBufferPointer(rebasing: rows[place..<place + width])
                            )
                            next += 1
                        }
                        sums.update(repeating: 0)
                        for (row, weight) in zip(window, down.weights(of: y)) {
                            let place = row % down.longest * width
                            for x in 0..<width {
                                sums[x] &+= weight &* rows[place + x]
                            }
                        }
                        writeRow(y, sums: sums, axes: axes, orientation: orientation, into: target)
                    }
                }
            }
        }
    }

    /// Colours of a row on black: `line` is `(crop.width, 3)`.
    private static func readRow(
        _ row: Int, from left: Int, of source: PixelRows, into line: UnsafeMutableBufferPointer<UInt8>
    ) {
        var offset = row * source.bytesPerRow + 4 * left
        for x in stride(from: 0, to: line.count, by: 3) {
            let alpha = source.alpha == .straight ? Int(source.bytes[offset + 3]) : 255
            for channel in 0..<3 {
                let colour = source.bytes[offset + channel]
                line[x + channel] = alpha == 255 ? colour : UInt8((2 * Int(colour) * alpha + 255) / 510)
            }
            offset += 4
        }
    }

    /// Rounds the sums `(axes.across.count, 3)` of a row and puts each pixel where it lies in the upright image.
    private static func writeRow(
        _ row: Int, sums: UnsafeMutableBufferPointer<Int>, axes: Axes, orientation: Orientation,
        into target: PixelTarget
    ) {
        let down = orientation.reversesRows ? axes.down.count - 1 - row : row
        let (red, blue) = target.order == .rgba ? (0, 2) : (2, 0)
        for x in 0..<axes.across.count {
            let across = orientation.reversesColumns ? axes.across.count - 1 - x : x
            let (line, column) = orientation.swapsAxes ? (across, down) : (down, across)
            let total = axes.down.totals[row] * axes.across.totals[x]
            let offset = line * target.bytesPerRow + 4 * column
            target.bytes[offset + red] = UInt8((2 * sums[3 * x] + total) / (2 * total))
            target.bytes[offset + 1] = UInt8((2 * sums[3 * x + 1] + total) / (2 * total))
            target.bytes[offset + blue] = UInt8((2 * sums[3 * x + 2] + total) / (2 * total))
            target.bytes[offset + 3] = 255
        }
    }
}

/// The weights of step 4 of both axes, as the image is stored.
private struct Axes {
    let down: Axis
    let across: Axis

    init(_ crop: Crop, orientation: Orientation, target: PixelTarget) {
        down = Axis(size: crop.height, count: orientation.swapsAxes ? target.width : target.height)
        across = Axis(size: crop.width, count: orientation.swapsAxes ? target.height : target.width)
    }

    /// Whether twice a sum of both axes, and half of its divisor more, fits 64 bits; then no operation overflows.
    var areExact: Bool {
        let largest = (down.totals.max() ?? 0, across.totals.max() ?? 0)
        let (product, overflows) = largest.0.multipliedReportingOverflow(by: largest.1)
        return !overflows && !product.multipliedReportingOverflow(by: 511).overflow
    }
}

/// The weights of one axis.
private struct Axis {
    /// Output pixels.
    let count: Int
    /// The input pixels with a weight above 0, of each output pixel.
    let windows: [Range<Int>]
    /// The sum of the weights, of each output pixel.
    let totals: [Int]
    /// The length of the longest window.
    let longest: Int
    /// The weights of all windows, one after another.
    private let weights: [Int]
    /// Where a window's weights begin.
    private let starts: [Int]

    init(size: Int, count: Int) {
        let reach = 2 * max(size, count)
        var windows: [Range<Int>] = []
        var totals: [Int] = []
        var weights: [Int] = []
        var starts: [Int] = []
        var first = 0
        for output in 0..<count {
            let weight = { (input: Int) in reach - abs((2 * input + 1) * count - (2 * output + 1) * size) }
            while weight(first) <= 0 {
                first += 1
            }
            starts.append(weights.count)
            var end = first
            while end < size, weight(end) > 0 {
                weights.append(weight(end))
                end += 1
            }
            windows.append(first..<end)
            totals.append(weights[starts[output]...].reduce(0, +))
        }
        self.count = count
        self.windows = windows
        self.totals = totals
        self.weights = weights
        self.starts = starts
        longest = windows.map(\.count).max() ?? 0
    }

    func weights(of output: Int) -> ArraySlice<Int> {
        weights[starts[output]..<starts[output] + windows[output].count]
    }

    /// Weighted sums `(count, 3)` of a row `(size, 3)`.
    func apply(to line: UnsafeMutableBufferPointer<UInt8>, into sums: UnsafeMutableBufferPointer<Int>) {
        weights.withUnsafeBufferPointer { weights in
            for (output, window) in windows.enumerated() {
                var (red, green, blue) = (0, 0, 0)
                var place = starts[output]
                for input in window {
                    let weight = weights[place]
                    red &+= weight &* Int(line[3 * input])
                    green &+= weight &* Int(line[3 * input + 1])
                    blue &+= weight &* Int(line[3 * input + 2])
                    place += 1
                }
                sums[3 * output] = red
                sums[3 * output + 1] = green
                sums[3 * output + 2] = blue
            }
        }
    }
}
