/// A pair of a candidate and a class, its box in pixels of the input.
struct Candidate {
    let number: Int
    let index: Int
    let score: Double
    let box: Box
}

extension BoxForm {
    /// Pairs that are looked at.
    private static let mostCandidates = 5000
    /// What a size's logarithm may be more than an anchor's: 62.5 times as wide.
    private static let largestLogarithm = 4.135166556742356

    /// The boxes in the model's outputs by falling score, in double precision and in an order of operations that all
    /// platforms have in common: the same outputs give the same bits.
    ///
    /// A pair of a candidate and a class counts where its score is finite and at least `minScore`, and its box is
    /// finite and has an area; equal scores are ordered by class, then by candidate. A box is left out where it
    /// overlaps one before it by more than the threshold.
    func decode(_ outputs: [[Float]], minScore: Double? = nil) -> [Candidate] {
        let least = minScore ?? scoreThreshold
        var found: [Candidate] = []
        var start = 0
        for block in blocks {
            var scores = [Double](repeating: 0, count: columns)
            for number in 0..<block.count {
                readScores(outputs, block, number, into: &scores)
                for index in 0..<classes {
                    let score = scores[firstClass + index]
                    guard score.isFinite, score >= least else {
                        continue
                    }
                    if peaks, !isPeak(outputs, block, number, firstClass + index) {
                        continue
                    }
                    let box = box(outputs, block, number)
                    if box.isBox {
                        found.append(Candidate(number: start + number, index: index, score: score, box: box))
                    }
                }
            }
            start += block.count
        }
        found.sort { one, other in
            if one.score != other.score {
                return one.score > other.score
            }
            return (one.index, one.number) < (other.index, other.number)
        }
        return unsuppressed(found.prefix(Self.mostCandidates))
    }

    /// Those of `candidates`, in their order, that overlap none before them by too much.
    private func unsuppressed(_ candidates: ArraySlice<Candidate>) -> [Candidate] {
        var taken: [Candidate] = []
        for one in candidates {
            if taken.count == most {
                break
            }
            let isSuppressed =
                overlapThreshold < 1
                && taken.contains {
                    (!perClass || $0.index == one.index) && $0.box.overlap(one.box) > overlapThreshold
                }
            if !isSuppressed {
                taken.append(one)
            }
        }
        return taken
    }

    /// The scores of a candidate, with the background's.
    private func readScores(_ outputs: [[Float]], _ block: Block, _ number: Int, into scores: inout [Double]) {
        for k in scores.indices {
            scores[k] = block.scores.value(outputs, number, k)
        }
        switch activation {
        case .softmax:
            Exact.softmax(&scores)
        case .sigmoid:
            for k in scores.indices {
                scores[k] = Exact.sigmoid(scores[k])
            }
        case .none:
            break
        }
        guard let given = block.objectness?.value(outputs, number, 0) else {
            return
        }
        let objectness = activation == .none ? given : Exact.sigmoid(given)
        for k in scores.indices {
            scores[k] *= objectness
        }
    }

    /// Whether no number of the same class in the cells around a candidate's is larger.
    private func isPeak(_ outputs: [[Float]], _ block: Block, _ number: Int, _ place: Int) -> Bool {
        let (cell, anchor) = number.quotientAndRemainder(dividingBy: block.perCell)
        let (row, column) = cell.quotientAndRemainder(dividingBy: block.columns)
        let value = block.scores.value(outputs, number, place)
        for y in max(0, row - 1)...min(block.rows - 1, row + 1) {
            for x in max(0, column - 1)...min(block.columns - 1, column + 1) {
                let other = (y * block.columns + x) * block.perCell + anchor
                if block.scores.value(outputs, other, place) > value {
                    return false
                }
            }
        }
        return true
    }

    private func box(_ outputs: [[Float]], _ block: Block, _ number: Int) -> Box {
        let (cell, anchor) = number.quotientAndRemainder(dividingBy: block.perCell)
        let (row, column) = cell.quotientAndRemainder(dividingBy: block.columns)
        let (x, y) = (Double(column), Double(row))
        let grid = ((x + center) * block.cell[0], (y + center) * block.cell[1])
        let first = (block.boxes.value(outputs, number, 0), block.boxes.value(outputs, number, 1))
        if format == .size {
            let size = (first.0 * block.unit[0], first.1 * block.unit[1])
            guard let offsets = block.offsets else {
                return Box(center: grid, size: size)
            }
            let moved = (x + offsets.value(outputs, number, 0), y + offsets.value(outputs, number, 1))
            return Box(center: (moved.0 * block.cell[0], moved.1 * block.cell[1]), size: size)
        }
        let second = (block.boxes.value(outputs, number, 2), block.boxes.value(outputs, number, 3))
        if format == .anchors {
            let size = (block.sizes[2 * anchor], block.sizes[2 * anchor + 1])
            let moved = (first.0 * variances[0] * size.0 + grid.0, first.1 * variances[1] * size.1 + grid.1)
            let grown = (Self.grown(second.0 * variances[2]), Self.grown(second.1 * variances[3]))
            return Box(center: moved, size: (grown.0 * size.0, grown.1 * size.1))
        }
        let (a, b) = (first.0 * block.unit[0], first.1 * block.unit[1])
        let (c, d) = (second.0 * block.unit[0], second.1 * block.unit[1])
        switch format {
        case .ltrb: return Box(left: grid.0 - a, top: grid.1 - b, right: grid.0 + c, bottom: grid.1 + d)
        case .cxcywh: return Box(center: (a, b), size: (c, d))
        default: return Box(left: a, top: b, right: c, bottom: d)
        }
    }

    private static func grown(_ logarithm: Double) -> Double {
        Exact.exp(logarithm > largestLogarithm ? largestLogarithm : logarithm)
    }
}

extension Candidate {
    /// The objects of candidates in pixels of the upright image of `width` by `height`, cut off at its edges; those
    /// that lie outside are left out.
    static func objects(
        _ candidates: [Candidate], placed: Placed, width: Int, height: Int, labels: [String]
    ) -> [Detection] {
        candidates.compactMap { one in
            let sides = placed.toPhoto([one.box.left, one.box.top, one.box.right, one.box.bottom])
            let ends = [width, height, width, height].map(Double.init)
            let inside = zip(sides, ends).map { side, end in side < 0 ? 0 : side > end ? end : side }
            let box = Box(left: inside[0], top: inside[1], right: inside[2], bottom: inside[3])
            guard box.isBox else {
                return nil
            }
            return Detection(index: one.index, label: labels[one.index], score: one.score, box: box)
        }
    }
}

extension Box {
    fileprivate init(center: (Double, Double), size: (Double, Double)) {
        let (width, height) = (size.0 * 0.5, size.1 * 0.5)
        self.init(
            left: center.0 - width, top: center.1 - height, right: center.0 + width, bottom: center.1 + height
        )
    }

    fileprivate var area: Double { (right - left) * (bottom - top) }

    fileprivate var isBox: Bool {
        left.isFinite && top.isFinite && right.isFinite && bottom.isFinite && right > left && bottom > top
    }

    /// Intersection over union.
    func overlap(_ other: Box) -> Double {
        let width = min(right, other.right) - max(left, other.left)
        let height = min(bottom, other.bottom) - max(top, other.top)
        guard width > 0, height > 0 else {
            return 0
        }
        let shared = width * height
        return shared / (area + other.area - shared)
    }
}

/// Functions to the same bits everywhere, as no mathematical library promises them.
enum Exact {
    private static let log2E = 1.4426950408889634
    private static let ln2High = 0.6931471803691238
    private static let ln2Low = 1.9082149292705877e-10
    private static let largest = 700.0
    /// 1 / n! from the 13th on.
    private static let coefficients = [
        1 / 6_227_020_800.0, 1 / 479_001_600.0, 1 / 39_916_800.0, 1 / 3_628_800.0, 1 / 362_880.0, 1 / 40_320.0,
        1 / 5_040.0, 1 / 720.0, 1 / 120.0, 1 / 24.0, 1 / 6.0, 0.5, 1.0, 1.0,
    ]

    /// 0 below -700, above 700 that of 700.
    static func exp(_ value: Double) -> Double {
        if value.isNaN {
            return value
        }
        if value < -largest {
            return 0
        }
        let x = value > largest ? largest : value
        let k = (x * log2E + 0.5).rounded(.down)
        let r = (x - k * ln2High) - k * ln2Low
        var p = coefficients[0]
        for coefficient in coefficients.dropFirst() {
            p = p * r + coefficient
        }
        return p * Double(bitPattern: UInt64(Int(k) + 1023) << 52)
    }

    static func sigmoid(_ value: Double) -> Double {
        1 / (1 + exp(-value))
    }

    /// In place; added from the first on. NaN for all where one is, or the largest infinite.
    static func softmax(_ values: inout [Double]) {
        var largest = values[0]
        for value in values where value > largest {
            largest = value
        }
        var total = 0.0
        for k in values.indices {
            values[k] = exp(values[k] - largest)
            total += values[k]
        }
        for k in values.indices {
            values[k] /= total
        }
    }
}
